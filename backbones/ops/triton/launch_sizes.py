"""Sizes that launches of Triton kernels depend on: width of indices, number of parts, powers of two."""

from torch import Tensor

INT32_MAX = 2**31 - 1


def needs_wide_index(*tensors: Tensor) -> bool:
    """Return whether an element of these tensors needs a 64-bit index, counted from their first one."""
    return any(_reach(tensor) > INT32_MAX for tensor in tensors)


def parts(count: int, size: int) -> int:
    """Return the number of parts of `size` that hold `count`; the last one may be smaller."""
    return -(-count // size)


def power_of_two(number: int) -> int:
    """Return the smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()


def _reach(tensor: Tensor) -> int:
    """Return the number of elements from the first to the last in memory, gaps included."""
    if not tensor.numel():
        return 0
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((length - 1) * stride for length, stride in axes)
