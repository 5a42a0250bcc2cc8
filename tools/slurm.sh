# Sourced by slurm_train.sh and slurm_test.sh: one srun task a GPU.

PYTHON=${PYTHON:-python}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
SRUN_ARGS=${SRUN_ARGS:-}

launch() {  # launch PARTITION JOB_NAME SCRIPT ARGUMENTS...
  command -v srun >/dev/null || { echo 'error: srun is not here; on one machine use tools/dist_*.sh' >&2; exit 2; }
  local folder
  folder=$(dirname "${BASH_SOURCE[0]}")
  # shellcheck disable=SC2086  # SRUN_ARGS holds several words
  PYTHONPATH="$folder/..:${PYTHONPATH:-}" srun -p "$1" --job-name="$2" --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="$CPUS_PER_TASK" --kill-on-bad-exit=1 \
    $SRUN_ARGS "$PYTHON" -u "$folder/$3" "${@:4}" --launcher slurm
}
