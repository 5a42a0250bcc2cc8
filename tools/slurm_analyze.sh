#!/usr/bin/env bash
# Analyze on a Slurm cluster. ANALYSIS is erf, invariance or robustness.
#
#     GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='--time=2:00:00' \
#       bash tools/slurm_analyze.sh PARTITION JOB_NAME ANALYSIS CONFIG CHECKPOINT [options of tools/analyze_ANALYSIS.py]
set -euo pipefail
if [ $# -lt 5 ]; then
  echo 'error: usage: bash tools/slurm_analyze.sh PARTITION JOB_NAME ANALYSIS CONFIG CHECKPOINT [options]' >&2
  exit 2
fi
GPUS=${GPUS:-8}
source "$(dirname "$0")/slurm.sh"
analysis "$3"
launch "$1" "$2" "analyze_$3.py" "$4" "$5" "${@:6}"
