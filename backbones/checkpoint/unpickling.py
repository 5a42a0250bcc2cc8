"""Unpickling that runs nothing: weights, plain data, and objects of foreign classes as inert data.

`torch.load(weights_only=True)` refuses a file that holds any object of a class it does not know, such
as the `argparse.Namespace` or the config object that trainings leave beside the weights. Here such an
object becomes an `OrderedDict` of its items with its attributes in `__dict__`; a pickle that wants
something called is refused, and what it wanted is named.
"""

import argparse
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch.types import Device

from backbones.checkpoint.inert_arrays import (
    InertArray,
    InertType,
    UnsafeArrayError,
    reconstruct,
    scalar,
)

# Values, not code, although they are pickled as a call; their arguments are kept instead.
PICKLED_AS_CALLS = (
    *(f'builtins.{kind}' for kind in ('frozenset', 'range')),
    *(f'datetime.{kind}' for kind in ('date', 'datetime', 'time', 'timedelta', 'timezone')),
    'decimal.Decimal',
    'types.SimpleNamespace',
    # The last two are where Python 3.13 has them.
    *(f'pathlib.{kind}' for kind in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')),
    *(f'pathlib._local.{kind}' for kind in ('PosixPath', 'WindowsPath')),
)
UNKNOWN_NAME = re.compile(r'GLOBAL ([\w.]+)')
# Pickled as a call with a plain dict.
CONFIG_DICTS = ('mmengine.config.config.ConfigDict', 'mmcv.utils.config.ConfigDict')
HISTORY = f'{HistoryBuffer.__module__}.{HistoryBuffer.__name__}'
METHODS_OF_HISTORY = ('min', 'max', 'current', 'mean')


class CodeInCheckpointError(Exception):
    """The pickle wants something called; the message is its full name."""


def load_inert(file: Path, map_location: Device | Callable | str | None = 'cpu') -> object:
    """What `torch.save` wrote to `file`, in the zip or the legacy format, without running any of it.

    Args:
        file: the checkpoint.
        map_location: as for `torch.load`.

    Raises:
        CodeInCheckpointError: it wants code to be run.
        Exception: whatever `torch.load` raises for a damaged file.
    """
    foreign = {name: _foreign_class(name) for name in _unknown_names(file)}
    while True:
        stand_ins = [(stand_in, name) for name, stand_in in foreign.items()]
        try:
            with torch.serialization.safe_globals([*known_globals(), *stand_ins]), _quietly():
                return torch.load(file, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            name = _unknown_name(error)
            if name is None:
                raise
            # torch never lets modules such as `os` in, whatever stands for them.
            if name in foreign or 'is blocked' in str(error):
                raise CodeInCheckpointError(name) from None
            foreign[name] = _foreign_class(name)


def _unknown_names(file: Path) -> list[str]:
    """Full names of all classes and functions in a file that torch does not know.

    Empty where torch does not list them, as for the legacy format: `load_inert` then reads the file once
    more for each.
    """
    names = getattr(torch.serialization, 'get_unsafe_globals_in_checkpoint', None)
    if names is None or not zipfile.is_zipfile(file):
        return []
    with torch.serialization.safe_globals(known_globals()):
        return names(file)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's advice to its own developers about pickles of other protocols."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Detected pickle protocol', category=UserWarning)
        yield


def known_globals() -> list:
    """What an unpickler may meet beside tensors and plain data, some under another full name."""
    # NumPy 2 moved two of them; files of either version name their own place.
    arrays = [(InertArray, 'numpy.ndarray'), (InertType, 'numpy.dtype')]
    arrays += [
        (stand_in, f'{package}.multiarray.{name}')
        for stand_in, name in ((reconstruct, '_reconstruct'), (scalar, 'scalar'))
        for package in ('numpy.core', 'numpy._core')
    ]
    values = [(_KeptCall, name) for name in PICKLED_AS_CALLS]
    history = [(_History, HISTORY), (_method_of_history, 'builtins.getattr')]
    containers = [(dict, name) for name in CONFIG_DICTS]
    containers += [
        (_kept_items, 'collections.defaultdict'),
        (_kept_entries, 'collections.deque'),
        (_empty_bytes, 'builtins.bytes'),
    ]
    return [argparse.Namespace, slice, *arrays, *values, *history, *containers]


class _KeptCall:
    """A value that is pickled as a call of its class: the arguments."""

    def __init__(self, *args: object) -> None:
        self.args = args


def _kept_items(*_: object) -> OrderedDict:
    """Stands for a mapping whose items follow in the pickle."""
    return OrderedDict()


def _kept_entries(*_: object) -> list:
    """Stands for a sequence whose entries follow in the pickle."""
    return []


def _empty_bytes() -> bytes:
    """The one call of `bytes` that pickles of data make."""
    return b''


class _Uncallable(type):
    """Classes of it make objects without being called, as unpickling plain data does."""

    def __call__(cls, *_: object) -> None:
        raise CodeInCheckpointError(cls.full_name)


class _History(HistoryBuffer, metaclass=_Uncallable):
    """Becomes a `HistoryBuffer`, without what the file says that its class's methods should be."""

    full_name = HISTORY

    def __setstate__(self, state: dict) -> None:
        histories = state['_log_history'], state['_count_history']
        # Of lists that share entries, NumPy would make arrays of any size.
        if not all(isinstance(history, InertArray) for history in histories):
            raise UnsafeArrayError('a history that is no array')
        self.__class__ = HistoryBuffer
        self.__init__(max_length=int(state['max_length']))
        self._log_history, self._count_history = map(np.asarray, histories)


def _foreign_class(name: str) -> type:
    """Stands for the class called `name`: its objects become ordered dicts."""

    def new(_: type, *__: object) -> OrderedDict:
        return OrderedDict()

    return _Uncallable(name.rsplit('.', 1)[-1], (), {'__new__': new, 'full_name': name})


def _method_of_history(owner: object, name: str) -> Callable:
    """The one use of `getattr` that the suite's own checkpoints make."""
    if owner is not _History or name not in METHODS_OF_HISTORY:
        raise CodeInCheckpointError('builtins.getattr')
    return getattr(HistoryBuffer, name)


def _unknown_name(error: pickle.UnpicklingError) -> str | None:
    """Full name of the class or function that torch did not know."""
    match = UNKNOWN_NAME.search(str(error))
    if not match:
        return None
    # torch leaves `builtins.` out.
    return match[1] if '.' in match[1] else f'builtins.{match[1]}'
