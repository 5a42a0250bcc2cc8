# Sourced by slurm_*.sh: checks the settings and starts one srun task per GPU.

PYTHON=${PYTHON:-python}
FOLDER=$(dirname "${BASH_SOURCE[0]}")
source "$FOLDER/checks.sh"
positive_number GPUS 'the total number of processes'
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
SRUN_ARGS=${SRUN_ARGS:-}

launch() {  # launch PARTITION JOB_NAME SCRIPT ARGUMENTS...
  positive_number GPUS_PER_NODE 'the number of processes on each machine'
  positive_number CPUS_PER_TASK 'the number of CPU cores of each process'
  python_is_here
  command -v srun >/dev/null || fail 'srun was not found; on a single machine use tools/dist_*.sh'
  # shellcheck disable=SC2086  # SRUN_ARGS holds several words
  PYTHONPATH="$FOLDER/..${PYTHONPATH:+:$PYTHONPATH}" srun -p "$1" --job-name="$2" --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="$CPUS_PER_TASK" --kill-on-bad-exit=1 \
    $SRUN_ARGS "$PYTHON" -u "$FOLDER/$3" "${@:4}" --launcher slurm
}
