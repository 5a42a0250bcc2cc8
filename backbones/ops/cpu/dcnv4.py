"""DCNv4 sampling on the CPU, compiled by numba: that of DCNv3 without the softmax.

Offsets and weights are read where they lie, and so are their gradients written.
"""

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.sampling import (
    TILE,
    F,
    Grid,
    Layout,
    Tile,
    differentiate,
    flat,
    read_points,
    sum_samples,
    supported,
    work_arrays,
    write_points,
)
from backbones.ops.cpu.threads import for_ranges


def forward(value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    """See `backbones.ops.dcnv4`; dtypes other than float32 and bfloat16 are converted to float32."""
    batch, height, width, heads, dim = value.shape
    tensors = supported(value), supported(offset_mask)
    out = torch.empty_like(tensors[0])
    grid = Grid(height, width, kernel_size, F(offset_scale))
    layouts = _layouts(offset_mask.shape[3], kernel_size)
    arguments = (*map(flat, tensors), flat(out), grid, layouts, heads, (0,) * dim)
    tiles = batch * -(-height * width // TILE)
    for_ranges(lambda begin, end: _forward_tiles(*arguments, begin, end), tiles)
    return out.to(value.dtype)


def backward(
    grad_out: Tensor, value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of value and offset_mask; deterministic.

    Threads split the heads, not the tokens, so that no two threads add to the same memory.
    """
    batch, height, width, heads, dim = value.shape
    grad_value = torch.zeros(value.shape, dtype=torch.float32)
    grad_offset_mask = torch.empty(offset_mask.shape, dtype=torch.float32)
    # The padding is not written below.
    grad_offset_mask[..., 3 * kernel_size**2 * heads :] = 0
    tensors = map(supported, (grad_out, value, offset_mask))
    gradients = flat(grad_value), flat(grad_offset_mask)
    grid = Grid(height, width, kernel_size, F(offset_scale))
    layouts = _layouts(offset_mask.shape[3], kernel_size)
    arguments = (*map(flat, tensors), gradients, grid, layouts, heads, (0,) * dim)
    for_ranges(lambda begin, end: _backward_heads(*arguments, begin, end), batch * heads)
    return grad_value.to(value.dtype), grad_offset_mask.to(offset_mask.dtype)


def _layouts(channels: int, kernel_size: int) -> tuple[Layout, Layout]:
    """Return the layouts of the offsets and of the weights in `offset_mask`, (B, H, W, channels)."""
    points = kernel_size**2
    return Layout(channels, 3 * points, 0), Layout(channels, 3 * points, 2 * points)


@compiled
def _forward_tiles(value, offset_mask, out, grid, layouts, heads, row, begin, end):
    """Process tiles `begin` to `end` of all images, with all heads."""
    points, tokens = grid.kernel_size**2, grid.height * grid.width
    tiles_an_image = (tokens + TILE - 1) // TILE
    of_offsets, of_weights = layouts
    places = np.zeros((2, points, TILE), F)
    weights = np.zeros((1, points, TILE), F)
    work = work_arrays(points)
    for number in range(begin, end):
        image, first = number // tiles_an_image * tokens, number % tiles_an_image * TILE
        for head in range(heads):
            tile = Tile(image, first, min(TILE, tokens - first), heads, head)
            read_points(offset_mask, places, tile, of_offsets)
            read_points(offset_mask, weights, tile, of_weights)
            sum_samples(value, out, places, weights[0], work, tile, grid, row)


@compiled
def _backward_heads(grad_out, value, offset_mask, gradients, grid, layouts, heads, row, begin, end):
    """Process heads `begin` to `end`, counted over all images."""
    grad_value, grad_offset_mask = gradients
    points, tokens = grid.kernel_size**2, grid.height * grid.width
    of_offsets, of_weights = layouts
    places = np.zeros((2, points, TILE), F)
    weights = np.zeros((1, points, TILE), F)
    grad_weights = np.zeros((1, points, TILE), F)
    work = work_arrays(points)
    for i in range(begin, end):
        image, head = i // heads * tokens, i % heads
        for first in range(0, tokens, TILE):
            tile = Tile(image, first, min(TILE, tokens - first), heads, head)
            read_points(offset_mask, places, tile, of_offsets)
            read_points(offset_mask, weights, tile, of_weights)
            differentiate(
                grad_out, value, grad_value, places, weights[0], grad_weights[0], work, tile, grid, row
            )
            write_points(places, grad_offset_mask, tile, of_offsets)
            write_points(grad_weights, grad_offset_mask, tile, of_weights)
