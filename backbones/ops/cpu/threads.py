"""Numba functions that leave the interpreter's lock, run on as many threads as torch uses.

The threads are those of torch's own OpenMP, where it is GNU's: they stay awake for a while after every
operator of torch, and would keep the cores from a second pool. numba's own threads would be such a pool,
and end a forked process.
"""

import ctypes
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path

import torch

# Begin and end of the part of a range that a thread works on.
Work = Callable[[int, int], None]
# A forked process has OpenMP's list of threads, but not the threads.
PROCESS = os.getpid()


def for_ranges(function: Work, count: int) -> None:
    """Call `function(begin, end)` for as many parts of `range(count)` as torch has threads.

    Raises:
        Exception: what a part raised, after all have ended.
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
        # Fewer than were asked for where this is part of a parallel region already.
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
        # Not before all have ended may the caller let go of the memory.
        wait(others)
    for other in others:
        other.result()


@cache
def openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP that came with torch; None where torch has another, or none."""
    for file in sorted((Path(torch.__file__).parent / 'lib').glob('libgomp*.so*')):
        library = ctypes.CDLL(str(file))
        if hasattr(library, 'GOMP_parallel') and _covers_a_range(library):
            return library
        warnings.warn(
            f'the mixers are slower on the CPU: {file.name} cannot be called as that of GCC',
            stacklevel=4,
        )
    return None


def _covers_a_range(library: ctypes.CDLL) -> bool:
    """Return whether the parts that the library's threads work on are a whole range, each once."""
    count, found = 8, []
    _by_openmp(library, lambda begin, end: found.extend(range(begin, end)), count, parts=2)
    return sorted(found) == [*range(count)]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix='mixers')


# A forked process has the queue of the pool, but not its threads either.
os.register_at_fork(after_in_child=_pool.cache_clear)
