"""Process groups of a run: ranks, restarts and exits."""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator

# Exit status of Python when the last output cannot be written.
OUTPUT_LOST = 120


@contextlib.contextmanager
def exit_without_finalization() -> Iterator[None]:
    """Exit a process of a group right after its `atexit` functions, without interpreter finalization.

    Threads of the group may still hold the last sent tensors and need the interpreter to release them.
    A thread that asks for it too late ends a successful process with SIGABRT. `destroy_process_group`
    does not end the threads if DistributedDataParallel has used the group.

    Enter this before anything else registers an `atexit` function: the first one registered runs last.
    """
    status = [0]
    atexit.register(_exit_if_in_a_group, status)
    try:
        yield
    except BaseException as error:
        status[0] = _status_of(error)
        raise


def _status_of(error: BaseException) -> int:
    """Return the exit status that the interpreter gives to `error`."""
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _exit_if_in_a_group(status: list[int]) -> None:
    torch = sys.modules.get('torch')
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os._exit(OUTPUT_LOST)
    os._exit(status[0])


RANKS = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
COUNTS = ('WORLD_SIZE', 'SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')


def process_rank() -> int:
    """Return the rank of this process; 0 if it is the only one."""
    return _first(RANKS, default=0)


def process_count() -> int:
    """Return the number of processes."""
    return _first(COUNTS, default=1)


def speaks_first() -> bool:
    """Return whether this process prints errors: one process per terminal does.

    torchrun has a terminal on every machine, `srun` has one for all.
    """
    return _first(('LOCAL_RANK', *RANKS), default=0) == 0


def note(message: str) -> None:
    """Print a message on the first process only."""
    if process_rank() == 0:
        print(message, flush=True)


def _first(names: tuple[str, ...], default: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


# Set by `tools/launch.py`: its start time, in nanoseconds since 1970.
LAUNCHED = 'LAUNCHED_NANOSECONDS'
# Set by torchrun in the processes that it starts.
COUNT = 'TORCHELASTIC_RESTART_COUNT'


def restart_count() -> int:
    """Return how often torchrun has restarted the processes."""
    return int(os.environ.get(COUNT, 0))
