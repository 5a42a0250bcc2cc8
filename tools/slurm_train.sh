#!/usr/bin/env bash
# Train on a Slurm cluster.
#
#     GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='--time=2-0' \
#       bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options of tools/train.py]
set -euo pipefail
if [ $# -lt 4 ]; then
  echo 'error: usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [options]' >&2
  exit 2
fi
GPUS=${GPUS:-8}
source "$(dirname "$0")/slurm.sh"
launch "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
