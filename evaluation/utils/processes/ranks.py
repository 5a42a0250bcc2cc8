"""Which of several processes this one is, from what launchers leave in the environment."""

import os

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


def _first(names: tuple[str, ...], default: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), default)
