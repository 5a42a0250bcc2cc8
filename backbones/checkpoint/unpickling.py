"""Unpickling without running code: weights, plain data, and objects of unknown classes as inert data.

`torch.load(weights_only=True)` rejects a file if it contains any object of an unknown class, such as
the `argparse.Namespace` or config object that training scripts store with the weights. Here, such an
object becomes an `OrderedDict` of its items with its attributes in `__dict__`. A pickle that tries to
call something is rejected, with the name of what it tries to call.
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

# These are values, not code, but are pickled as a call; the arguments are kept instead.
PICKLED_AS_CALLS = (
    *(f'builtins.{kind}' for kind in ('frozenset', 'range')),
    *(f'datetime.{kind}' for kind in ('date', 'datetime', 'time', 'timedelta', 'timezone')),
    'decimal.Decimal',
    'types.SimpleNamespace',
    # Python 3.13 has moved these two.
    *(f'pathlib.{kind}' for kind in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')),
    *(f'pathlib._local.{kind}' for kind in ('PosixPath', 'WindowsPath')),
)
UNKNOWN_NAME = re.compile(r'GLOBAL ([\w.]+)')
# These are pickled as a call with a plain dict.
CONFIG_DICTS = ('mmengine.config.config.ConfigDict', 'mmcv.utils.config.ConfigDict')
HISTORY = f'{HistoryBuffer.__module__}.{HistoryBuffer.__name__}'
METHODS_OF_HISTORY = ('min', 'max', 'current', 'mean')


class CodeInCheckpointError(Exception):
    """The pickle tries to call a function or class; the message is its full name."""


def load_inert(file: Path, map_location: Device | Callable | str | None = 'cpu') -> object:
    """Return the content of a file written by `torch.save` (zip or legacy format) without running code.

    Args:
        file: path of the checkpoint.
        map_location: as in `torch.load`.

    Raises:
        CodeInCheckpointError: the file tries to run code.
        Exception: any exception that `torch.load` raises for a corrupt file.
    """
    foreign = {name: _foreign_class(name) for name in _unknown_names(file)}
    while True:
        stand_ins = [(stand_in, name) for name, stand_in in foreign.items()]
        try:
            # For a path, PyTorch 2.15 decides by the file name, and users rename files.
            with (
                torch.serialization.safe_globals([*known_globals(), *stand_ins]),
                _quietly(),
                open(file, 'rb') as stream,
            ):
                return torch.load(stream, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            name = _unknown_name(error)
            if name is None:
                raise
            # torch always blocks modules such as `os`, even if a stand-in is given.
            if name in foreign or 'is blocked' in str(error):
                raise CodeInCheckpointError(name) from None
            foreign[name] = _foreign_class(name)


def _unknown_names(file: Path) -> list[str]:
    """Return the full names of all classes and functions in a file that torch does not know.

    Empty if torch cannot list them, as in the legacy format; `load_inert` then reads the file once more
    for each.
    """
    names = getattr(torch.serialization, 'get_unsafe_globals_in_checkpoint', None)
    if names is None or not zipfile.is_zipfile(file):
        return []
    with torch.serialization.safe_globals(known_globals()):
        return names(file)


@contextmanager
def _quietly() -> Iterator[None]:
    """Silence torch's warning about other pickle protocols, which is meant for its own developers."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Detected pickle protocol', category=UserWarning)
        yield


def known_globals() -> list:
    """Return the classes and functions that a pickle may name; stand-ins come with a full name."""
    # NumPy 2 moved two functions; files contain the full name of the version that wrote them.
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
    """The arguments of a value that is pickled as a call of its class."""

    def __init__(self, *args: object) -> None:
        self.args = args


def _kept_items(*_: object) -> OrderedDict:
    """Stand-in for a mapping whose items follow in the pickle."""
    return OrderedDict()


def _kept_entries(*_: object) -> list:
    """Stand-in for a sequence whose entries follow in the pickle."""
    return []


def _empty_bytes() -> bytes:
    """Stand-in for the only call of `bytes` in pickles of data."""
    return b''


class _Uncallable(type):
    """Metaclass of classes that cannot be called; unpickling plain data only needs `__new__`."""

    def __call__(cls, *_: object) -> None:
        raise CodeInCheckpointError(cls.full_name)


class _History(HistoryBuffer, metaclass=_Uncallable):
    """Becomes a `HistoryBuffer`, but ignores the methods that the file sets on its class."""

    full_name = HISTORY

    def __setstate__(self, state: dict) -> None:
        histories = state['_log_history'], state['_count_history']
        # NumPy would expand nested lists that share entries into arrays of any size.
        if not all(isinstance(history, InertArray) for history in histories):
            raise UnsafeArrayError('a history that is not an array')
        self.__class__ = HistoryBuffer
        self.__init__(max_length=int(state['max_length']))
        self._log_history, self._count_history = map(np.asarray, histories)


def _foreign_class(name: str) -> type:
    """Return a stand-in for the class called `name`; its objects become ordered dicts."""

    def new(_: type, *__: object) -> OrderedDict:
        return OrderedDict()

    return _Uncallable(name.rsplit('.', 1)[-1], (), {'__new__': new, 'full_name': name})


def _method_of_history(owner: object, name: str) -> Callable:
    """Stand-in for the only use of `getattr` in the suite's own checkpoints."""
    if owner is not _History or name not in METHODS_OF_HISTORY:
        raise CodeInCheckpointError('builtins.getattr')
    return getattr(HistoryBuffer, name)


def _unknown_name(error: pickle.UnpicklingError) -> str | None:
    """Return the full name of the class or function that torch does not know."""
    match = UNKNOWN_NAME.search(str(error))
    if not match:
        return None
    # torch omits `builtins.`.
    return match[1] if '.' in match[1] else f'builtins.{match[1]}'
