"""Compile the CPU's operators and cache the compiled code."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
from llvmlite import binding

# Without `nnan` and `ninf`, so that NaN and infinity are handled correctly.
OPTIONS = {'nogil': True, 'fastmath': {'contract', 'reassoc', 'nsz'}}


def compiled(function: Callable) -> Callable:
    """Compile a function with numba at its first call, and cache the code for other processes.

    If no cache folder is writable, every process compiles again.
    """
    return _compiled(function, **OPTIONS)


def inlined(function: Callable) -> Callable:
    """Compile a function as in `compiled`, as a part of every function that calls it.

    LLVM vectorizes a loop over several arrays best where it sees that they do not overlap, which is in
    the function that allocates them. It does not inline large functions on its own.
    """
    return _compiled(function, forceinline=True, **OPTIONS)


def _compiled(function: Callable, **options: bool | set[str]) -> Callable:
    with cached_by_source():
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)


def has_wide_vectors() -> bool:
    """Return whether the processor has the 32 vector registers of AVX-512, of 512 bits each."""
    return bool(binding.get_host_cpu_features().get('avx512f'))


@contextmanager
def cached_by_source() -> Iterator[None]:
    """Cache compiled code under a digest of all source files in this folder.

    numba only checks the file of a function, and would use outdated code if a function that it calls in
    a different file has changed.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(Path(before or default_cache()) / source_digest())
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def default_cache() -> Path:
    """Return the user's cache folder, which is used unless `NUMBA_CACHE_DIR` is set."""
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'dense-mixer-bench'


@functools.cache
def source_digest() -> str:
    """Return a digest of the Python files in this folder."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob('*.py')):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
