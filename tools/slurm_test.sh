#!/usr/bin/env bash
# Evaluate on a Slurm cluster.
#
#     GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='--time=2:00:00' \
#       bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
set -euo pipefail
if [ $# -lt 4 ]; then
  echo 'error: usage: bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options]' >&2
  exit 2
fi
GPUS=${GPUS:-8}
source "$(dirname "$0")/slurm.sh"
launch "$1" "$2" test.py "$3" "$4" "${@:5}"
