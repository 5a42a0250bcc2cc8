"""Run numba functions that release the GIL on as many threads as torch uses.

The threads are those of torch's own OpenMP if it is GNU's: they stay active for a while after every
torch operator, and would block the cores for a second pool. numba's own threads would be such a pool,
and terminate a forked process.
"""

import ctypes
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import torch

# Called with the begin and end of a thread's part of a range.
Work = Callable[[int, int], None]
# A forked process inherits OpenMP's list of threads, but not the threads.
PROCESS = os.getpid()


def for_ranges(function: Work, count: int) -> None:
    """Split `range(count)` into one part per torch thread and call `function(begin, end)` in parallel.

    Raises:
        Exception: an exception from a part, raised after all parts have finished.
    """
    parts = max(1, min(torch.get_num_threads(), count))
    if parts == 1:
        function(0, count)
    elif os.getpid() == PROCESS and openmp():
        _by_openmp(openmp(), function, count, parts)
    else:
        _by_pool(function, count, parts)


def _by_openmp(library: ctypes.CDLL, function: Work, count: int, parts: int) -> None:
    errors = []

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    def part(_: None) -> None:
        # There may be fewer threads than requested if this is already in a parallel region.
        number, threads = library.omp_get_thread_num(), library.omp_get_num_threads()
        try:
            function(count * number // threads, count * (number + 1) // threads)
        except BaseException as error:
            errors.append(error)

    library.GOMP_parallel(part, None, ctypes.c_uint(parts), ctypes.c_uint(0))
    if errors:
        raise errors[0]


def _by_pool(function: Work, count: int, parts: int) -> None:
    cuts = [count * part // parts for part in range(parts + 1)]
    others = [_pool(parts).submit(function, cuts[i], cuts[i + 1]) for i in range(1, parts)]
    try:
        function(cuts[0], cuts[1])
    finally:
        # The caller may free the memory only after all parts have finished.
        wait(others)
    for other in others:
        other.result()


@cache
def openmp() -> ctypes.CDLL | None:
    """Load the GNU OpenMP library that torch ships; None if it ships a different one, or none."""
    for file in sorted((Path(torch.__file__).parent / 'lib').glob('libgomp*.so*')):
        library = ctypes.CDLL(str(file))
        if hasattr(library, 'GOMP_parallel') and _covers_a_range(library):
            return library
        warnings.warn(
            f"the mixers are slower on the CPU: {file.name} cannot be called like GCC's OpenMP",
            stacklevel=4,
        )
    return None


def _covers_a_range(library: ctypes.CDLL) -> bool:
    """Return whether the parts of the library's threads cover a range exactly once."""
    count, found = 8, []
    _by_openmp(library, lambda begin, end: found.extend(range(begin, end)), count, parts=2)
    return sorted(found) == [*range(count)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix='mixers')


# A forked process inherits the queue of the pool, but not its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
