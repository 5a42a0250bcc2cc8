"""NumPy's arrays, types and numbers in a pickle, without what makes unpickling them dangerous.

NumPy trusts what it unpickles: an array of objects can be made over any bytes, which are then followed
as pointers, and a type's state can make one of any layout. Here only arrays of plain numbers, truth
values and texts come out, of as many bytes as their shape says.
"""

import math
import re

import numpy as np

# Kind and size: `f8`, `b1`, `U10`.
PLAIN_TYPE = re.compile(r'[biufcSU]\d{1,6}')


class UnsafeArrayError(Exception):
    """An array that is not of plain values."""


class InertType:
    """Stands for `numpy.dtype`; `plain` is the type, once its state is known to be harmless."""

    def __init__(self, name: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(name, str) or not PLAIN_TYPE.fullmatch(name):
            raise UnsafeArrayError(f'type {name!r}')
        self.plain = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        _, order, *layout = state
        # Part of a type with fields or of arrays; what follows are sizes and flags, which the name says.
        if order not in ('<', '>', '|', '=') or any(part is not None for part in layout[:3]):
            raise UnsafeArrayError(f'layout {state!r}')
        self.plain = self.plain.newbyteorder(order)


class InertArray(np.ndarray):
    """An array that is made by `reconstruct` and a harmless state alone."""

    def __new__(cls, *_: object) -> 'InertArray':
        raise UnsafeArrayError('an array over given memory')

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, InertType) or not isinstance(content, bytes):
            raise UnsafeArrayError('an array of objects')
        if math.prod(shape) * dtype.plain.itemsize != len(content):
            raise UnsafeArrayError(f'{len(content)} bytes for shape {shape}')
        super().__setstate__((1, tuple(shape), dtype.plain, bool(is_fortran), content))


def reconstruct(kind: type, *_: object) -> InertArray:
    """Stands for NumPy's `_reconstruct`: an empty array, whose state follows in the pickle."""
    if kind is not InertArray:
        raise UnsafeArrayError(f'an array of {kind}')
    return np.ndarray.__new__(InertArray, (0,), np.int8)


def scalar(dtype: InertType, content: bytes) -> np.generic:
    """Stands for NumPy's `scalar`: one number of a plain type."""
    if not isinstance(dtype, InertType) or not isinstance(content, bytes):
        raise UnsafeArrayError('a number of no plain type')
    if len(content) != dtype.plain.itemsize:
        raise UnsafeArrayError(f'{len(content)} bytes for {dtype.plain}')
    return np.frombuffer(content, dtype.plain, 1)[0]
