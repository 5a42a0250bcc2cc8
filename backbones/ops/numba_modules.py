"""The modules whose operators numba compiles, which not every machine can import."""

import functools
import importlib
import warnings
from types import ModuleType


@functools.cache
def numba_module(name: str, what: str) -> ModuleType | None:
    """A module of this folder; None, with one warning, where numba does not import.

    Args:
        name: of the module.
        what: is slow without it.
    """
    try:
        return importlib.import_module(f'backbones.ops.{name}')
    except (ImportError, RuntimeError) as error:
        warnings.warn(f'{what} on the CPU is slow: numba cannot be used ({error})', stacklevel=2)
        return None
