"""Numba functions that leave the interpreter's lock, run on as many threads as torch uses."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import torch


def for_ranges(function: Callable[[int, int], None], count: int) -> None:
    """Call `function(begin, end)` for as many parts of `range(count)` as torch has threads.

    numba's own threads would be a second pool of OpenMP beside torch's, and end a forked process.
    """
    parts = max(1, min(torch.get_num_threads(), count))
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
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix='mixers')


# A forked process has the pool's queue but not its threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
