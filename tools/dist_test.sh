#!/usr/bin/env bash
# Evaluate with several processes, one per GPU, or on the CPU if there are no GPUs.
#
#     bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
#     NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 bash tools/dist_test.sh ...   # on each machine
set -euo pipefail
if [ $# -lt 3 ]; then
  echo 'error: usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]' >&2
  exit 2
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
source "$(dirname "$0")/dist.sh"
launch test.py "$CONFIG" "$CHECKPOINT" "${@:4}"
