"""Depthwise convolution with large kernels on CUDA, compiled by Triton.

Every program computes four rows of output, so that each pixel that it reads is multiplied with four
taps; with one row, reading would limit the speed. The weight gradient uses each pixel four times too.
Sums have a fixed order, so results do not change from call to call. FFTs would need float32 copies of
the map with channels first, and are not used.

Triton is imported when first needed, since it is not available on every platform.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor

from backbones.ops.triton import launch_sizes

WARPS = 4
# Rows of output or taps per program; fixed by the kernels.
ROWS = 4
# Columns and channels of a tile; at most this many channels.
COLUMNS, CHANNELS = 32, 32
# Rows of the map in one sum of the weight gradient.
STRIP = 32


@functools.cache
def available() -> bool:
    """Return whether Triton can be imported."""
    try:
        _kernels()
    except ImportError:
        return False
    return True


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `backbones.ops.depthwise`; computed in float32."""
    x, out = x.contiguous(), torch.empty(x.shape, dtype=x.dtype, device=x.device)
    batch, height, width, channels = x.shape
    side, block = weight.shape[-1], _block(channels)
    # (K, K, C), so that adjacent threads read adjacent numbers.
    weight = weight.float().reshape(channels, -1).t().contiguous()
    tiles = batch * launch_sizes.parts(height, ROWS) * launch_sizes.parts(width, COLUMNS)
    with torch.cuda.device_of(x):
        _kernels().forward[(tiles, launch_sizes.parts(channels, block))](
            x,
            weight,
            None if bias is None else bias.float(),
            out,
            height,
            width,
            channels,
            side,
            COLUMNS=COLUMNS,
            BLOCK=block,
            WIDE_INDEX=launch_sizes.needs_wide_index(x),
            num_warps=WARPS,
        )
    return out


def weight_gradient(x: Tensor, grad: Tensor, side: int) -> Tensor:
    """Return the gradient of the weight, (C, 1, side, side) float32."""
    x, grad = x.contiguous(), grad.contiguous()
    batch, height, width, channels = x.shape
    block, strips = _block(channels), launch_sizes.parts(height, STRIP)
    sums = torch.empty(batch * strips, side, side, channels, dtype=torch.float32, device=x.device)
    grid = side * launch_sizes.parts(side, ROWS), launch_sizes.parts(channels, block), batch * strips
    with torch.cuda.device_of(x):
        _kernels().weight_gradient[grid](
            x,
            grad,
            sums,
            height,
            width,
            channels,
            side,
            STRIP=STRIP,
            COLUMNS=COLUMNS,
            BLOCK=block,
            WIDE_INDEX=launch_sizes.needs_wide_index(x, sums),
            num_warps=WARPS,
        )
    return sums.sum(0).permute(2, 0, 1).unsqueeze(1).contiguous()


def _block(channels: int) -> int:
    """Return the number of channels per program, a power of two."""
    return min(launch_sizes.power_of_two(channels), CHANNELS)


def _kernels() -> ModuleType:
    from backbones.ops.triton import depthwise_kernels

    return depthwise_kernels
