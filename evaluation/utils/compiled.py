"""Loops over millions of detections, compiled by numba where it works, exact to the last bit."""

import functools
from collections.abc import Callable
from typing import TypeVar

Function = TypeVar('Function', bound=Callable)


def compiled(function: Function) -> Function:
    """Have numba compile a function at its first call, and keep the code for the next process.

    Without numba, whose import fails on some machines, it is the function as it is: slow, but the
    figures of a long training are not lost for it. No arithmetic is reordered. The function must not
    call compiled ones of other files, of whose changes numba's store of compiled code would not know.
    """
    try:
        import numba
    except (ImportError, RuntimeError):
        return function
    try:
        return functools.wraps(function)(numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # No folder can be written.
        return numba.njit(nogil=True)(function)
