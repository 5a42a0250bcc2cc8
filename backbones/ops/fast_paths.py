"""Choose between the fast path of an operator and plain PyTorch, for each type of device."""

import functools
import importlib
import os
import warnings
from types import ModuleType
from typing import NamedTuple

import torch

from backbones.errors import BackboneError

FAST, REFERENCE = 'fast', 'reference'
# The setting of earlier versions, for one operator alone.
REPLACED = 'DCNV3_IMPLEMENTATION'


class Backend(NamedTuple):
    """Where the fast paths of a type of device are.

    Attributes:
        setting: environment variable, `fast` or `reference`; all processes of a launcher have it.
        package: has a module for each operator.
        library: compiles them, and may be missing.
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
    """Return whether the environment leaves fast paths on for a type of device, as is the default.

    Raises:
        BackboneError: the setting has an unknown value, or one of an earlier version is set.
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
    """Return the module of an operator's fast path; None where plain PyTorch is to be used.

    Args:
        device: type of device, such as `cpu`.
        operator: name of the module.
        what: is slow without it, for the one warning where the library that compiles it does not import.

    Raises:
        BackboneError: as `is_fast`.
    """
    return _imported(device, operator, what) if is_fast(device) else None


@functools.cache
def _imported(device: str, operator: str, what: str) -> ModuleType | None:
    _, package, library = BACKENDS[device]
    try:
        importlib.import_module(library)
        return importlib.import_module(f'{package}.{operator}')
    except (ImportError, RuntimeError) as error:
        warnings.warn(
            f'{what} on {device} is slow, in plain PyTorch: {library} cannot be used ({error})',
            stacklevel=3,
        )
        return None
