"""DCNv3's sampling on the CPU, compiled by numba.

A tile of tokens of one head is worked on at a time: its weights and corners are computed in arrays
that stay in the cache, points before tokens, so that each loop over tokens is a loop over SIMD lanes;
then its rows of channels are gathered and summed. Positions are float32.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    dot,
    exponentials,
    load_number,
    load_row,
    maximum,
    multiply,
    store_row,
    zero_row,
)

# Of single precision, which the compiler must not widen.
F, I = np.float32, np.int32  # noqa: E741
TILE = 32
LANES = (0,) * TILE


class Tile(NamedTuple):
    """Some tokens of a head of an image: `count` from `first`; `image` is the image's first of all."""

    image: int
    first: int
    count: int
    heads: int
    head: int


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`; float32 or bfloat16, others by way of float32."""
    batch, height, width, heads, dim = value.shape
    tensors = list(map(_supported, (value, offsets, logits)))
    out = torch.empty_like(tensors[0])
    sizes = (height, width, heads, kernel_size)
    arguments = (tuple(map(_flat, tensors)), _flat(out), sizes, (0,) * dim)
    tiles = batch * -(-height * width // TILE)
    for_ranges(lambda begin, end: _forward_tiles(*arguments, begin, end), tiles)
    return out.to(value.dtype)


def backward(
    grad_out: Tensor, value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, offsets and logits; the same at every call.

    Threads share out heads, not tokens, so that no two add to the same memory.
    """
    batch, height, width, heads, dim = value.shape
    grad_value = torch.zeros(value.shape, dtype=torch.float32)
    grad_offsets = torch.empty(offsets.shape, dtype=torch.float32)
    grad_logits = torch.empty(logits.shape, dtype=torch.float32)
    grad_out, *tensors = map(_supported, (grad_out, value, offsets, logits))
    gradients = tuple(map(_flat, (grad_value, grad_offsets, grad_logits)))
    sizes = (height, width, heads, kernel_size)
    arguments = (_flat(grad_out), tuple(map(_flat, tensors)), gradients, sizes, (0,) * dim)
    for_ranges(lambda begin, end: _backward_heads(*arguments, begin, end), batch * heads)
    return grad_value.to(value.dtype), grad_offsets.to(offsets.dtype), grad_logits.to(logits.dtype)


def _supported(tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.bfloat16):
        tensor = tensor.float()
    return tensor.contiguous()


def _flat(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor, of bfloat16 as int16, which NumPy has."""
    tensor = tensor.detach().view(-1)
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@compiled
def _forward_tiles(inputs, out, sizes, row, begin, end):
    """Tiles `begin` to `end` of all images, each for all heads."""
    value, offsets, logits = inputs
    height, width, heads, kernel_size = sizes
    dim, points, tokens = len(row), kernel_size**2, height * width
    tiles_an_image = (tokens + TILE - 1) // TILE
    places = np.zeros((2, points, TILE), F)
    weights = np.zeros((points, TILE), F)
    corners = np.zeros((4, points, TILE), I)
    sides = np.zeros((4, points, TILE), F)
    for number in range(begin, end):
        image, first = number // tiles_an_image * tokens, number % tiles_an_image * TILE
        count = min(TILE, tokens - first)
        for head in range(heads):
            tile = Tile(image, first, count, heads, head)
            _read_points(offsets, places, tile, 2)
            _read_points(logits, weights.reshape(1, points, TILE), tile, 1)
            _softmax(weights)
            _positions(places, first, width, kernel_size)
            _corners(places, height, width, corners, sides)
            _corner_weights(weights, sides)
            for token in range(count):
                total = zero_row(row)
                for point in range(points):
                    for corner in range(4):
                        start = _place(tile, corners[corner, point, token]) * dim
                        sample = load_row(value, start, row)
                        total = add_scaled(total, sides[corner, point, token], sample)
                store_row(out, _place(tile, first + token) * dim, total)


@compiled
def _backward_heads(grad_out, inputs, gradients, sizes, row, begin, end):
    """Heads `begin` to `end` of all images, counted through."""
    value, offsets, logits = inputs
    grad_value, grad_offsets, grad_logits = gradients
    height, width, heads, kernel_size = sizes
    points, tokens = kernel_size**2, height * width
    places = np.zeros((2, points, TILE), F)
    slopes = np.zeros((4, points, TILE), F)
    weights = np.zeros((points, TILE), F)
    grad_weights = np.zeros((1, points, TILE), F)
    corners = np.zeros((4, points, TILE), I)
    sides = np.zeros((4, points, TILE), F)
    products = np.zeros((4, points, TILE), F)
    for i in range(begin, end):
        image, head = i // heads * tokens, i % heads
        for first in range(0, tokens, TILE):
            count = min(TILE, tokens - first)
            tile = Tile(image, first, count, heads, head)
            _read_points(offsets, places, tile, 2)
            _read_points(logits, weights.reshape(1, points, TILE), tile, 1)
            _softmax(weights)
            _positions(places, first, width, kernel_size)
            _corners(places, height, width, corners, sides)
            _slopes(places, height, width, slopes)
            _corner_products(grad_out, value, corners, products, tile, row)
            _point_gradients(weights, sides, slopes, products, places, grad_weights[0])
            _softmax_gradient(weights, grad_weights[0])
            _write_points(places, grad_offsets, tile, 2)
            _write_points(grad_weights, grad_logits, tile, 1)
            _corner_weights(weights, sides)
            _scatter(grad_out, grad_value, corners, sides, tile, row)


@compiled
def _place(tile, token):
    """How many rows, of all images, lie before that of a token of the tile's image and head."""
    return (tile.image + token) * tile.heads + tile.head


@compiled
def _read_points(source, target, tile, parts):
    """(tokens, heads, points, parts) of memory to (parts, points, tokens) of a tile."""
    points = target.shape[1]
    for token in range(tile.count):
        start = _place(tile, tile.first + token) * points * parts
        for point in range(points):
            for part in range(parts):
                target[part, point, token] = load_number(source, start + point * parts + part)


@compiled
def _write_points(source, target, tile, parts):
    """(parts, points, tokens) of a tile to (tokens, heads, points, parts) of memory."""
    points = source.shape[1]
    for token in range(tile.count):
        start = _place(tile, tile.first + token) * points * parts
        for point in range(points):
            for part in range(parts):
                target[start + point * parts + part] = source[part, point, token]


@compiled
def _softmax(weights):
    """Over the points of each token, in place; (points, tokens)."""
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
    """From gradients of the weights to those of the logits, in place; (points, tokens)."""
    mean = np.zeros(TILE, F)
    for point in range(weights.shape[0]):
        for token in range(TILE):
            mean[token] += weights[point, token] * grads[point, token]
    for point in range(weights.shape[0]):
        for token in range(TILE):
            grads[point, token] = weights[point, token] * (grads[point, token] - mean[token])


@compiled
def _positions(places, first, width, kernel_size):
    """From offsets to positions in the map, in place; (x and y, points, tokens)."""
    across, down = np.empty(TILE, F), np.empty(TILE, F)
    for token in range(TILE):
        down[token] = F((first + token) // width)
        across[token] = F((first + token) % width)
    for point in range(places.shape[1]):
        to_x, to_y = (
            F(point // kernel_size - kernel_size // 2),
            F(point % kernel_size - kernel_size // 2),
        )
        for token in range(TILE):
            places[0, point, token] += across[token] + to_x
            places[1, point, token] += down[token] + to_y


@compiled
def _clamped(position, size):
    """A position that is as far outside as matters; NaN too."""
    position = position if position > F(-2) else F(-2)
    return position if position < F(size + 1) else F(size + 1)


@compiled
def _floor(position):
    """Of what `_clamped` returns, since rounding is towards zero."""
    return I(position + F(2)) - I(2)


@compiled
def _within(index, size):
    return min(max(index, I(0)), I(size - 1))


@compiled
def _corners(places, height, width, corners, sides):
    """The four tokens around each position, and their shares.

    Args:
        places: (x and y, points, tokens).
        corners: becomes the token in the image, (4, points, tokens): upper left, upper right,
            lower left, lower right; moved into the map where it is outside.
        sides: becomes the shares of the left and right columns and of the upper and lower rows,
            (4, points, tokens); 0 outside the map.
    """
    for point in range(places.shape[1]):
        for token in range(TILE):
            x, y = _clamped(places[0, point, token], width), _clamped(places[1, point, token], height)
            left, upper = _floor(x), _floor(y)
            right, lower = left + I(1), upper + I(1)
            to_x, to_y = x - F(left), y - F(upper)
            sides[0, point, token] = F(1) - to_x if 0 <= left < width else F(0)
            sides[1, point, token] = to_x if 0 <= right < width else F(0)
            sides[2, point, token] = F(1) - to_y if 0 <= upper < height else F(0)
            sides[3, point, token] = to_y if 0 <= lower < height else F(0)
            left, right = _within(left, width), _within(right, width)
            upper, lower = _within(upper, height) * I(width), _within(lower, height) * I(width)
            corners[0, point, token] = upper + left
            corners[1, point, token] = upper + right
            corners[2, point, token] = lower + left
            corners[3, point, token] = lower + right


@compiled
def _slopes(places, height, width, slopes):
    """Derivatives of the shares that `_corners` computes, by x and x, y and y."""
    for point in range(places.shape[1]):
        for token in range(TILE):
            left = _floor(_clamped(places[0, point, token], width))
            upper = _floor(_clamped(places[1, point, token], height))
            slopes[0, point, token] = F(-1) if 0 <= left < width else F(0)
            slopes[1, point, token] = F(1) if -1 <= left < width - 1 else F(0)
            slopes[2, point, token] = F(-1) if 0 <= upper < height else F(0)
            slopes[3, point, token] = F(1) if -1 <= upper < height - 1 else F(0)


@compiled
def _corner_weights(weights, sides):
    """From shares of columns and rows to weights of corners, in place."""
    for point in range(weights.shape[0]):
        for token in range(TILE):
            left, right = sides[0, point, token], sides[1, point, token]
            upper = sides[2, point, token] * weights[point, token]
            lower = sides[3, point, token] * weights[point, token]
            sides[0, point, token] = upper * left
            sides[1, point, token] = upper * right
            sides[2, point, token] = lower * left
            sides[3, point, token] = lower * right


@compiled
def _corner_products(grad_out, value, corners, products, tile, row):
    """Inner products of the output's gradient with the rows at the corners, (4, points, tokens)."""
    dim = len(row)
    for token in range(tile.count):
        grad = load_row(grad_out, _place(tile, tile.first + token) * dim, row)
        for point in range(corners.shape[1]):
            for corner in range(4):
                start = _place(tile, corners[corner, point, token]) * dim
                products[corner, point, token] = dot(grad, load_row(value, start, row))


@compiled
def _point_gradients(weights, sides, slopes, products, grad_places, grad_weights):
    """Gradients of positions, (x and y, points, tokens), and of weights, (points, tokens)."""
    for point in range(weights.shape[0]):
        for token in range(TILE):
            left, right = sides[0, point, token], sides[1, point, token]
            upper, lower = sides[2, point, token], sides[3, point, token]
            upper_left, upper_right = products[0, point, token], products[1, point, token]
            lower_left, lower_right = products[2, point, token], products[3, point, token]
            in_upper = left * upper_left + right * upper_right
            in_lower = left * lower_left + right * lower_right
            to_left, to_right = slopes[0, point, token], slopes[1, point, token]
            by_x = upper * (to_left * upper_left + to_right * upper_right) + lower * (
                to_left * lower_left + to_right * lower_right
            )
            by_y = slopes[2, point, token] * in_upper + slopes[3, point, token] * in_lower
            grad_places[0, point, token] = weights[point, token] * by_x
            grad_places[1, point, token] = weights[point, token] * by_y
            grad_weights[point, token] = upper * in_upper + lower * in_lower


@compiled
def _scatter(grad_out, grad_value, corners, weights, tile, row):
    """Add each output's gradient to the rows that it was made of."""
    dim = len(row)
    for token in range(tile.count):
        grad = load_row(grad_out, _place(tile, tile.first + token) * dim, row)
        for point in range(corners.shape[1]):
            for corner in range(4):
                start = _place(tile, corners[corner, point, token]) * dim
                added = add_scaled(load_row(grad_value, start, row), weights[corner, point, token], grad)
                store_row(grad_value, start, added)
