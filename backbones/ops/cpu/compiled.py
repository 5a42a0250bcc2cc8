"""How the CPU's operators are compiled, and where the result is kept."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numba
from llvmlite import binding

# NaN and infinity must stay what they are.
OPTIONS = {'nogil': True, 'fastmath': {'contract', 'reassoc', 'nsz'}}


def compiled(function: Callable) -> Callable:
    """Have numba compile a function at its first call, and keep the code for the next process.

    Where no folder can be written, every process compiles anew.
    """
    with cached_by_source():
        try:
            return numba.njit(cache=True, **OPTIONS)(function)
        except RuntimeError:
            return numba.njit(**OPTIONS)(function)


def has_wide_vectors() -> bool:
    """Whether there are the 32 vector registers of 512 bits of AVX-512, and not 16 of 256 or less."""
    return bool(binding.get_host_cpu_features().get('avx512f'))


@contextmanager
def cached_by_source() -> Iterator[None]:
    """Keep compiled code by a digest of all sources here.

    numba looks at the file of a function alone, and would go on with old code where what it calls in
    another file has changed.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(Path(before or default_cache()) / source_digest())
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def default_cache() -> Path:
    """The user's cache, unless `NUMBA_CACHE_DIR` names another."""
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'dense-mixer-bench'


@functools.cache
def source_digest() -> str:
    """Digest of the Python files of this folder."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob('*.py')):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
