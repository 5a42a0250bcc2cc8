"""Keep freed memory for the next pass, and pause Python's garbage collector.

glibc gives large blocks back to the system at once, which then has to clear their pages for the next
pass again: 60,000 of them in a training step of a tiny backbone, 5 % of its time.
"""

import contextlib
import ctypes
import gc
import os
from collections.abc import Iterator

# Numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
MOST = 2**31 - 1
# Where the user has settled it already.
SETTINGS = ('GLIBC_TUNABLES', 'MALLOC_MMAP_MAX_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')


def keep_freed_memory() -> bool:
    """Have this process, and those that it forks, keep freed memory up to 2 GiB at the heap's end.

    For work on the CPU. The most memory that the process has at a time stays the same.

    Returns:
        Whether the C library does so; not where it is another than glibc, or where the environment says
        how it is to use memory.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None or any(name in os.environ for name in SETTINGS):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, MOST))


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Do not search for reference cycles: each search would go through all that was made so far."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def end_start_up() -> None:
    """Collect garbage again, but never search what exists now: the modules of the libraries.

    They are about a million objects; one search through them takes 0.3 s.
    """
    gc.freeze()
    gc.enable()
