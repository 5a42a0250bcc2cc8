"""GELU and its gradient in one pass on the CPU, compiled by numba.

In a backward pass that computes GELU again, PyTorch takes erf twice, an exponential, and goes through
memory twice. Here one exponential serves all.
"""

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.attention import LANES
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add_product,
    exponentials,
    filled_row,
    load_row,
    multiply,
    normal_distribution,
    store_row,
)

F = np.float32
ROOT_OF_TWO_PI = np.sqrt(2 * np.pi)
# Work for a thread, in numbers.
PART = 2**14


def gelu_and_gradient(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """`F.gelu(x)` and the gradient of x.

    Args:
        x: contiguous float32 of any shape.
        grad: that of the output, of x's shape, contiguous float32.
    """
    out, grad_x = torch.empty_like(x), torch.empty_like(x)
    arrays = [tensor.detach().view(-1).numpy() for tensor in (x, grad, out, grad_x)]
    numbers = x.numel()

    def work(begin: int, end: int) -> None:
        _gelu_and_gradient(*arrays, begin * PART, min(end * PART, numbers), LANES)

    for_ranges(work, -(-numbers // PART))
    return out, grad_x


@compiled
def _gelu_and_gradient(x, grad, out, grad_x, begin, end, lanes):
    width = len(lanes)
    whole = begin + (end - begin) // width * width
    for i in range(begin, whole, width):
        values, slopes = _values_and_slopes(load_row(x, i, lanes), lanes)
        store_row(out, i, values)
        store_row(grad_x, i, multiply(slopes, load_row(grad, i, lanes)))
    if whole < end:
        values, slopes = np.zeros(width, F), np.empty(width, F)
        values[: end - whole] = x[whole:end]
        row, slope = _values_and_slopes(load_row(values, 0, lanes), lanes)
        store_row(values, 0, row)
        store_row(slopes, 0, slope)
        for i in range(whole, end):
            out[i], grad_x[i] = values[i - whole], slopes[i - whole] * grad[i]


@compiled
def _values_and_slopes(x, lanes):
    """Of GELU: x Phi(x) and Phi(x) + x phi(x), with the standard normal distribution and its density."""
    density = exponentials(multiply(multiply(x, x), filled_row(F(-0.5), lanes)))
    below = normal_distribution(x, density)
    density = multiply(density, filled_row(F(1 / ROOT_OF_TWO_PI), lanes))
    return multiply(x, below), add_product(below, x, density)
