"""Weight gradient of depthwise convolutions on the CPU, compiled by numba.

A tile of one output row and some channels is multiplied by all its neighborhoods while both are in the
cache.
"""

import math

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import add_product, load_row, store_row

COLUMNS, CHANNELS = 16, 32
# Number of separate sums; fixed, so that the result does not depend on the number of threads.
SUMS = 16


def depthwise_weight_gradient(x: Tensor, grad: Tensor, side: int) -> Tensor:
    """Compute the weight gradient of a depthwise convolution with stride 1 and same-size output.

    Args:
        x, grad: input and output gradient, (B, H, W, C), float32 or bfloat16.
        side: side of the kernel; odd.

    Returns:
        (C, 1, side, side) float32.
    """
    batch, height, width, channels = x.shape
    sums = torch.zeros(SUMS, side, side, channels)
    x, grad = _flat(x), _flat(grad)
    sizes, part = (height, width, channels, side), (0,) * math.gcd(channels, CHANNELS)
    arguments = (x, grad, sums.view(SUMS, -1).numpy(), batch, sizes, part)
    for_ranges(lambda begin, end: _rows(*arguments, begin, end), SUMS)
    return sums.sum(0).permute(2, 0, 1).unsqueeze(1)


def _flat(tensor: Tensor) -> np.ndarray:
    """Return the memory of a tensor; bfloat16 becomes int16, which NumPy supports."""
    tensor = tensor.detach().contiguous().view(-1)
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@compiled
def _rows(x, grad, sums, batch, sizes, part, begin, end):
    """Compute sums `begin` to `end`, each over its share of the rows of all images."""
    height, width, channels, _ = sizes
    rows = batch * height
    for number in range(begin, end):
        total = sums[number]
        for row in range(rows * number // SUMS, rows * (number + 1) // SUMS):
            for left in range(0, width, COLUMNS):
                for channel in range(0, channels, len(part)):
                    _tile(x, grad, total, row, left, channel, sizes, part)


@compiled
def _tile(x, grad, sums, row, left, channel, sizes, part):
    """Add the contribution of a tile of a row to all kernel positions."""
    height, width, channels, side = sizes
    image, y, reach = row // height * height, row % height, side // 2
    for down in range(side):
        source = y + down - reach
        if not 0 <= source < height:
            continue
        for across in range(side):
            shift = across - reach
            at = (down * side + across) * channels + channel
            total = load_row(sums, at, part)
            for column in range(max(left, -shift), min(left + COLUMNS, width, width - shift)):
                total = add_product(
                    total,
                    load_row(grad, (row * width + column) * channels + channel, part),
                    load_row(x, ((image + source) * width + column + shift) * channels + channel, part),
                )
            store_row(sums, at, total)
