#!/usr/bin/env bash
# Analyze with several processes, one per GPU, or on the CPU if there are no GPUs.
# ANALYSIS is erf, invariance or robustness.
#
#     bash tools/dist_analyze.sh ANALYSIS CONFIG CHECKPOINT GPUS [options of tools/analyze_ANALYSIS.py]
set -euo pipefail
if [ $# -lt 4 ]; then
  echo 'error: usage: bash tools/dist_analyze.sh ANALYSIS CONFIG CHECKPOINT GPUS [options]' >&2
  exit 2
fi
CONFIG=$2
CHECKPOINT=$3
GPUS=$4
source "$(dirname "$0")/dist.sh"
analysis "$1"
launch "analyze_$1.py" "$CONFIG" "$CHECKPOINT" "${@:5}"
