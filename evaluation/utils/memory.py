"""How much memory there is, keeping what was freed, and what it looks like when memory runs out."""

import contextlib
import ctypes
import gc
import os
import resource
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

_REFUSALS = (
    'DefaultCPUAllocator',
    'std::bad_alloc',
    'Storage size calculation overflowed',
    'numel: integer multiplication overflow',
)
_CGROUPS = Path('/sys/fs/cgroup')


class OutOfMemoryError(Exception):
    """An allocation was refused."""


@contextmanager
def out_of_memory_raised(device: torch.device) -> Iterator[None]:
    """Let whatever the allocators of CPU and GPU raise be one exception, and give back what was taken.

    Raises:
        OutOfMemoryError: an allocation was refused.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # The traceback's frames hold the tensors of the failed pass.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.empty_cache()
        raise OutOfMemoryError from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation was refused, or is larger than a number can be."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _REFUSALS)


@contextmanager
def refused_beyond_free_memory(device: torch.device) -> Iterator[None]:
    """Let allocations on the CPU fail that the machine has no memory for.

    Linux grants them, and then kills the process that uses them. Other systems, and a pass on a GPU, are
    left as they are.
    """
    # What is given back later would be free beside what was found free now.
    gc.collect()
    free = free_memory()
    if device.type != 'cpu' or free is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _kilobytes(Path('/proc/self/status'), 'VmData') + free
    bounds = [bound for bound in before if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit, *bounds]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def free_memory() -> int | None:
    """Bytes that this process may still take, by the machine and its control group; None if unknown."""
    facts = Path('/proc/meminfo')
    if not facts.is_file():
        return None
    free = [_kilobytes(facts, 'MemAvailable')]
    for folder, limit, used in (
        (_CGROUPS, 'memory.max', 'memory.current'),
        (_CGROUPS / 'memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes'),
    ):
        files = folder / limit, folder / used
        if all(file.is_file() for file in files):
            texts = [file.read_text().strip() for file in files]
            if texts[0] != 'max':
                free.append(max(int(texts[0]) - int(texts[1]), 0))
    return min(free)


def _kilobytes(file: Path, name: str) -> int:
    """Bytes that a line such as `VmData: 12 kB` states."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == f'{name}:') * 1024


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
