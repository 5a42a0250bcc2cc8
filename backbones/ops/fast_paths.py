"""Choose between an operator's fast path and plain PyTorch, for each device type."""

import functools
import importlib
import os
import warnings
from types import ModuleType
from typing import NamedTuple

import torch

from backbones.errors import BackboneError

FAST, REFERENCE = 'fast', 'reference'
# Environment variable of earlier versions, for dcnv3 only.
REPLACED = 'DCNV3_IMPLEMENTATION'


class Backend(NamedTuple):
    """Location of the fast paths for a device type.

    Attributes:
        setting: name of the environment variable, `fast` or `reference`; launchers pass it to all
            processes.
        package: package with a module for each operator.
        library: library that compiles the modules; optional.
    """

    setting: str
    package: str
    library: str


BACKENDS = {
    'cpu': Backend('DENSE_MIXERS_CPU', 'backbones.ops.cpu', 'numba'),
    'cuda': Backend('DENSE_MIXERS_CUDA', 'backbones.ops.triton', 'triton'),
}


@torch.compiler.assume_constant_result
def is_fast(device: str) -> bool:
    """Return whether fast paths are enabled for a device type, as they are by default.

    Raises:
        BackboneError: the environment variable has an unknown value, or an outdated one is set.
    """
    if device not in BACKENDS:
        return False
    setting = BACKENDS[device].setting
    if REPLACED in os.environ:
        raise BackboneError(
            f'{REPLACED}={os.environ[REPLACED]} is no longer read; '
            f'set {setting} to {FAST} or {REFERENCE}'
        )
    choice = os.environ.get(setting) or FAST
    if choice not in (FAST, REFERENCE):
        raise BackboneError(f'{setting}={choice}: choose {FAST} or {REFERENCE}')
    return choice == FAST


def fast_path(device: str, operator: str, what: str) -> ModuleType | None:
    """Return the module of an operator's fast path; None to use plain PyTorch.

    Args:
        device: device type, such as `cpu`.
        operator: name of the module.
        what: name of the computation, for the single warning if the library cannot be imported.

    Raises:
        BackboneError: as in `is_fast`.
    """
    return _imported(device, operator, what) if is_fast(device) else None


def implementation_of(operator: str, what: str, device: str, dtype: torch.dtype) -> str:
    """Return the implementation of an operator: `numba`, `triton` or `reference`.

    Args:
        operator, what: as in `fast_path`.
        device: device type.
        dtype: float64 always uses the reference.

    Raises:
        BackboneError: as in `is_fast`.
    """
    # On `meta`, only shapes are computed, and these are the same in all implementations.
    device = 'cpu' if device == 'meta' else device
    is_plain = dtype == torch.float64 or fast_path(device, operator, what) is None
    return REFERENCE if is_plain else BACKENDS[device].library


@functools.cache
def _imported(device: str, operator: str, what: str) -> ModuleType | None:
    _, package, library = BACKENDS[device]
    try:
        importlib.import_module(library)
        return importlib.import_module(f'{package}.{operator}')
    except (ImportError, RuntimeError) as error:
        warnings.warn(
            f'{what} on {device} falls back to slow plain PyTorch: {library} cannot be used ({error})',
            stacklevel=3,
        )
        return None
