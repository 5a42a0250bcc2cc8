"""Trainings that a launcher started again, after one of their processes had failed."""

import os

from evaluation.checkpoints.pointer import pointer_of

# Set by `tools/launch.py`: when it began, in nanoseconds since 1970.
LAUNCHED = 'LAUNCHED_NANOSECONDS'
# Set by torchrun in the processes that it starts.
COUNT = 'TORCHELASTIC_RESTART_COUNT'


def restart_count() -> int:
    """How often torchrun has started the processes again, this one among them."""
    return int(os.environ.get(COUNT, 0))


def resumed_by_restart(work_dir: str) -> str | None:
    """`latest` where a restarted training goes on from the last checkpoint that it wrote.

    None if this is the first start, or none was written since: one that lies in the work dir from
    another training is left alone, and the command line says again where to start.
    """
    pointer = pointer_of(work_dir)
    if restart_count() == 0 or not pointer.is_file():
        return None
    return 'latest' if pointer.stat().st_mtime_ns >= int(os.environ.get(LAUNCHED, 0)) else None
