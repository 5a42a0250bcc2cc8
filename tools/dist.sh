# Sourced by dist_train.sh and dist_test.sh: checks GPUS and starts torchrun.

PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
PORT=${PORT:-29500}

fail() {
  echo "error: $1" >&2
  exit 2
}

launch() {  # launch SCRIPT ARGUMENTS...
  [[ $GPUS =~ ^[1-9][0-9]*$ ]] || fail "GPUS is '$GPUS'; give the number of processes on this machine"
  [ -f "$CONFIG" ] || fail "config $CONFIG is not a file"
  # Two runs on one machine need ports of their own; say so before torchrun waits for its partner.
  if [ "$NODE_RANK" = 0 ] && (exec 3<>"/dev/tcp/$MASTER_ADDR/$PORT") 2>/dev/null; then
    fail "port $PORT of $MASTER_ADDR is taken; choose another with PORT=..."
  fi
  # Without this each process would start as many threads as the machine has cores.
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
  local folder
  folder=$(dirname "${BASH_SOURCE[0]}")
  PYTHONPATH="$folder/..:${PYTHONPATH:-}" "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" --node_rank="$NODE_RANK" --master_addr="$MASTER_ADDR" --master_port="$PORT" \
    --nproc_per_node="$GPUS" "$folder/$1" "${@:2}" --launcher pytorch
}
