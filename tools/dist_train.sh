#!/usr/bin/env bash
# Train with several processes, one per GPU, or on the CPU if there are no GPUs.
#
#     bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
#     NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 PORT=29500 bash tools/dist_train.sh ...   # on each machine
#     MAX_RESTARTS=3 bash tools/dist_train.sh ...   # if a process fails, resume from the last checkpoint
set -euo pipefail
if [ $# -lt 2 ]; then
  echo 'error: usage: bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]' >&2
  exit 2
fi
CONFIG=$1
GPUS=$2
source "$(dirname "$0")/dist.sh"
launch train.py "$CONFIG" "${@:3}"
