"""Several processes that are one run: which is which, restarts, and how each ends."""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator

# What the interpreter itself returns where the last output could not be written.
OUTPUT_LOST = 120


@contextlib.contextmanager
def exit_without_finalization() -> Iterator[None]:
    """After its `atexit` functions, end a process of a group before the interpreter is taken apart.

    The group's threads may still hold the last tensors that were sent, and need the interpreter to let
    go of them: a thread that asks for it too late ends the process by SIGABRT, after all was done well.
    `destroy_process_group` does not end the threads where DistributedDataParallel has used the group.

    To be entered before anything else registers an `atexit` function: the first comes last.
    """
    status = [0]
    atexit.register(_exit_if_in_a_group, status)
    try:
        yield
    except BaseException as error:
        status[0] = _status_of(error)
        raise


def _status_of(error: BaseException) -> int:
    """The exit status that the interpreter gives to `error`."""
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
    """Number of this process among all, 0 where there is one."""
    return _first(RANKS, default=0)


def process_count() -> int:
    """How many processes there are."""
    return _first(COUNTS, default=1)


def speaks_first() -> bool:
    """Whether this process tells the user what is wrong: one of each terminal.

    torchrun has a terminal on every machine, `srun` one for all.
    """
    return _first(('LOCAL_RANK', *RANKS), default=0) == 0


def note(message: str) -> None:
    """Print a message on the first process only."""
    if process_rank() == 0:
        print(message, flush=True)


def _first(names: tuple[str, ...], default: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


# Set by `tools/launch.py`: when it began, in nanoseconds since 1970.
LAUNCHED = 'LAUNCHED_NANOSECONDS'
# Set by torchrun in the processes that it starts.
COUNT = 'TORCHELASTIC_RESTART_COUNT'


def restart_count() -> int:
    """How often torchrun has started the processes again, this one among them."""
    return int(os.environ.get(COUNT, 0))
