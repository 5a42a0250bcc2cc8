"""Safe unpickling of NumPy arrays, dtypes and scalars.

NumPy trusts pickles: an object array can be created over arbitrary bytes, which are then followed as
pointers, and the state of a dtype can give it any layout. This module only creates arrays of plain
numbers, booleans and strings whose size in bytes matches their shape.
"""

import math
import re

import numpy as np

# Kind and size: `f8`, `b1`, `U10`.
PLAIN_TYPE = re.compile(r'[biufcSU]\d{1,6}')


class UnsafeArrayError(Exception):
    """A pickled array does not contain plain values."""


class InertType:
    """Stand-in for `numpy.dtype` that accepts only plain types; `plain` is the real dtype."""

    def __init__(self, name: str, align: bool = False, copy: bool = True) -> None:
        if not isinstance(name, str) or not PLAIN_TYPE.fullmatch(name):
            raise UnsafeArrayError(f'an array type {name!r}')
        self.plain = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        _, order, *layout = state
        # These parts are set for dtypes with fields or subarrays; the name implies the sizes and flags
        # after them.
        if order not in ('<', '>', '|', '=') or any(part is not None for part in layout[:3]):
            raise UnsafeArrayError(f'an array layout {state!r}')
        self.plain = self.plain.newbyteorder(order)


class InertArray(np.ndarray):
    """An array that can only be created by `reconstruct` and a harmless state."""

    def __new__(cls, *_: object) -> 'InertArray':
        raise UnsafeArrayError('an array over existing memory')

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, InertType) or not isinstance(content, bytes):
            raise UnsafeArrayError('an array of objects')
        if math.prod(shape) * dtype.plain.itemsize != len(content):
            raise UnsafeArrayError(f'an array with {len(content)} bytes for shape {shape}')
        super().__setstate__((1, tuple(shape), dtype.plain, bool(is_fortran), content))


def reconstruct(kind: type, *_: object) -> InertArray:
    """Stand-in for NumPy's `_reconstruct`: an empty array whose state follows in the pickle."""
    if kind is not InertArray:
        raise UnsafeArrayError(f'an array of class {kind}')
    return np.ndarray.__new__(InertArray, (0,), np.int8)


def scalar(dtype: InertType, content: bytes) -> np.generic:
    """Stand-in for NumPy's `scalar`: one number of a plain type."""
    if not isinstance(dtype, InertType) or not isinstance(content, bytes):
        raise UnsafeArrayError('a number that is not of a plain type')
    if len(content) != dtype.plain.itemsize:
        raise UnsafeArrayError(f'a number with {len(content)} bytes for type {dtype.plain}')
    return np.frombuffer(content, dtype.plain, 1)[0]
