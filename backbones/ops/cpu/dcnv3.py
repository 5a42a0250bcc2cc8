"""DCNv3 sampling on the CPU, compiled by numba.

The sampling itself is in `sampling`; this adds the softmax of the weights.
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
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    exponentials,
    load_row,
    maximum,
    multiply,
    store_row,
    zero_row,
)

LANES = (0,) * TILE


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`; dtypes other than float32 and bfloat16 are converted to float32."""
    batch, height, width, heads, dim = value.shape
    tensors = list(map(supported, (value, offsets, logits)))
    out = torch.empty_like(tensors[0])
    grid = Grid(height, width, kernel_size, F(1))
    arguments = (tuple(map(flat, tensors)), flat(out), grid, heads, (0,) * dim)
    tiles = batch * -(-height * width // TILE)
    for_ranges(lambda begin, end: _forward_tiles(*arguments, begin, end), tiles)
    return out.to(value.dtype)


def backward(
    grad_out: Tensor, value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of value, offsets and logits; deterministic.

    Threads split the heads, not the tokens, so that no two threads add to the same memory.
    """
    batch, height, width, heads, dim = value.shape
    grad_value = torch.zeros(value.shape, dtype=torch.float32)
    grad_offsets = torch.empty(offsets.shape, dtype=torch.float32)
    grad_logits = torch.empty(logits.shape, dtype=torch.float32)
    grad_out, *tensors = map(supported, (grad_out, value, offsets, logits))
    gradients = tuple(map(flat, (grad_value, grad_offsets, grad_logits)))
    grid = Grid(height, width, kernel_size, F(1))
    arguments = (flat(grad_out), tuple(map(flat, tensors)), gradients, grid, heads, (0,) * dim)
    for_ranges(lambda begin, end: _backward_heads(*arguments, begin, end), batch * heads)
    return grad_value.to(value.dtype), grad_offsets.to(offsets.dtype), grad_logits.to(logits.dtype)


@compiled
def _forward_tiles(inputs, out, grid, heads, row, begin, end):
    """Process tiles `begin` to `end` of all images, with all heads."""
    value, offsets, logits = inputs
    points, tokens = grid.kernel_size**2, grid.height * grid.width
    tiles_an_image = (tokens + TILE - 1) // TILE
    of_offsets, of_logits = _layouts(heads, points)
    places = np.zeros((2, points, TILE), F)
    weights = np.zeros((1, points, TILE), F)
    work = work_arrays(points)
    for number in range(begin, end):
        image, first = number // tiles_an_image * tokens, number % tiles_an_image * TILE
        for head in range(heads):
            tile = Tile(image, first, min(TILE, tokens - first), heads, head)
            read_points(offsets, places, tile, of_offsets)
            read_points(logits, weights, tile, of_logits)
            _softmax(weights[0])
            sum_samples(value, out, places, weights[0], work, tile, grid, row)


@compiled
def _backward_heads(grad_out, inputs, gradients, grid, heads, row, begin, end):
    """Process heads `begin` to `end`, counted over all images."""
    value, offsets, logits = inputs
    grad_value, grad_offsets, grad_logits = gradients
    points, tokens = grid.kernel_size**2, grid.height * grid.width
    of_offsets, of_logits = _layouts(heads, points)
    places = np.zeros((2, points, TILE), F)
    weights = np.zeros((1, points, TILE), F)
    grad_weights = np.zeros((1, points, TILE), F)
    work = work_arrays(points)
    for i in range(begin, end):
        image, head = i // heads * tokens, i % heads
        for first in range(0, tokens, TILE):
            tile = Tile(image, first, min(TILE, tokens - first), heads, head)
            read_points(offsets, places, tile, of_offsets)
            read_points(logits, weights, tile, of_logits)
            _softmax(weights[0])
            differentiate(
                grad_out, value, grad_value, places, weights[0], grad_weights[0], work, tile, grid, row
            )
            _softmax_gradient(weights[0], grad_weights[0])
            write_points(places, grad_offsets, tile, of_offsets)
            write_points(grad_weights, grad_logits, tile, of_logits)


@compiled
def _layouts(heads, points):
    """Return the layouts of (tokens, heads, points, 2) and (tokens, heads, points)."""
    return Layout(heads * points * 2, points * 2, 0), Layout(heads * points, points, 0)


@compiled
def _softmax(weights):
    """Compute the softmax over the points of each token in place; (points, tokens)."""
    flat, inverse = weights.reshape(-1), np.empty(TILE, F)
    peak, total = load_row(flat, 0, LANES), zero_row(LANES)
    for start in range(0, flat.size, TILE):
        peak = maximum(peak, load_row(flat, start, LANES))
    for start in range(0, flat.size, TILE):
        power = exponentials(add_scaled(load_row(flat, start, LANES), F(-1), peak))
        store_row(flat, start, power)
        total = add_scaled(total, F(1), power)
    store_row(inverse, 0, total)
    for token in range(TILE):
        inverse[token] = F(1) / inverse[token]
    for start in range(0, flat.size, TILE):
        share = multiply(load_row(flat, start, LANES), load_row(inverse, 0, LANES))
        store_row(flat, start, share)


@compiled
def _softmax_gradient(weights, grads):
    """Turn gradients of the weights into those of the logits in place; (points, tokens)."""
    mean = np.zeros(TILE, F)
    for point in range(weights.shape[0]):
        for token in range(TILE):
            mean[token] += weights[point, token] * grads[point, token]
    for point in range(weights.shape[0]):
        for token in range(TILE):
            grads[point, token] = weights[point, token] * (grads[point, token] - mean[token])
