# Sourced by dist_*.sh: checks the settings and starts one process per GPU.

PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
PORT=${PORT:-29500}
MAX_RESTARTS=${MAX_RESTARTS:-0}
FOLDER=$(dirname "${BASH_SOURCE[0]}")
source "$FOLDER/checks.sh"

launch() {  # launch SCRIPT ARGUMENTS...
  positive_number GPUS 'the number of processes on this machine'
  positive_number NNODES 'the number of machines'
  [[ $NODE_RANK =~ ^[0-9]+$ && 10#$NODE_RANK -lt $NNODES ]] || \
    fail "NODE_RANK is '$NODE_RANK'; give the number of this machine, from 0 to $((NNODES - 1))"
  [[ $PORT =~ ^[0-9]{1,5}$ && 10#$PORT -ge 1 && 10#$PORT -le 65535 ]] || \
    fail "PORT is '$PORT'; give a number from 1 to 65535"
  [[ $MAX_RESTARTS =~ ^[0-9]{1,4}$ ]] || \
    fail "MAX_RESTARTS is '$MAX_RESTARTS'; give the number of restarts after a failure"
  [ -f "$CONFIG" ] || fail "config $CONFIG is not a file"
  python_is_here
  # Two runs on one machine need different ports; report this before torchrun waits for the other nodes.
  if [ "$NODE_RANK" = 0 ] && (exec 3<>"/dev/tcp/$MASTER_ADDR/$PORT") 2>/dev/null; then
    fail "port $PORT of $MASTER_ADDR is in use; choose another with PORT=..."
  fi
  # Otherwise each process would start one thread per core of the machine.
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
  export PYTHONPATH="$FOLDER/..${PYTHONPATH:+:$PYTHONPATH}"
  exec "$PYTHON" "$FOLDER/launch.py" \
    --nnodes="$NNODES" --node_rank="$NODE_RANK" --master_addr="$MASTER_ADDR" --master_port="$PORT" \
    --nproc_per_node="$GPUS" --max_restarts="$MAX_RESTARTS" "$FOLDER/$1" "${@:2}" --launcher pytorch
}
