"""DCNv3 sampling on the CPU, compiled by numba.

One tile of tokens of one head is processed at a time. Its weights and corners are computed in arrays
that stay in the cache, points before tokens, so that each loop over tokens is a loop over SIMD lanes.
Then its rows of channels are gathered and summed. Positions are float32.
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

# Cast constants to 32 bits, so that numba does not promote to 64.
F, I = np.float32, np.int32  # noqa: E741
TILE = 32
LANES = (0,) * TILE


class Tile(NamedTuple):
    """`count` tokens of one head from token `first`; `image` is the index of the image's first token."""

    image: int
    first: int
    count: int
    heads: int
    head: int


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`; dtypes other than float32 and bfloat16 are converted to float32."""
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
    """Return the gradients of value, offsets and logits; deterministic.

    Threads split the heads, not the tokens, so that no two threads add to the same memory.
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
    """Return the memory of a contiguous tensor; bfloat16 becomes int16, which NumPy supports."""
    tensor = tensor.detach().view(-1)
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@compiled
def _forward_tiles(inputs, out, sizes, row, begin, end):
    """Process tiles `begin` to `end` of all images, with all heads."""
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
    """Process heads `begin` to `end`, counted over all images."""
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
    """Return the row index, over all images, of a token of the tile's image and head."""
    return (tile.image + token) * tile.heads + tile.head


@compiled
def _read_points(source, target, tile, parts):
    """Read (tokens, heads, points, parts) from memory into (parts, points, tokens) of a tile."""
    points = target.shape[1]
    for token in range(tile.count):
        start = _place(tile, tile.first + token) * points * parts
        for point in range(points):
            for part in range(parts):
                target[part, point, token] = load_number(source, start + point * parts + part)


@compiled
def _write_points(source, target, tile, parts):
    """Write (parts, points, tokens) of a tile to (tokens, heads, points, parts) in memory."""
    points = source.shape[1]
    for token in range(tile.count):
        start = _place(tile, tile.first + token) * points * parts
        for point in range(points):
            for part in range(parts):
                target[start + point * parts + part] = source[part, point, token]


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


@compiled
def _positions(places, first, width, kernel_size):
    """Turn offsets into positions in the map in place; (x and y, points, tokens)."""
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
    """Clamp a position to just outside the map; NaN too."""
    position = position if position > F(-2) else F(-2)
    return position if position < F(size + 1) else F(size + 1)


@compiled
def _floor(position):
    """Return the floor of a position from `_clamped`; adding 2 makes truncation round down."""
    return I(position + F(2)) - I(2)


@compiled
def _within(index, size):
    return min(max(index, I(0)), I(size - 1))


@compiled
def _corners(places, height, width, corners, sides):
    """Compute the four tokens around each position and their bilinear weights.

    Args:
        places: (x and y, points, tokens).
        corners: output, token indices in the image, (4, points, tokens): upper left, upper right,
            lower left, lower right; moved into the map if outside.
        sides: output, weights of the left and right columns and of the upper and lower rows,
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
    """Compute the derivatives of the `sides` from `_corners`, with respect to x, x, y and y."""
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
    """Turn the weights of columns and rows into weights of corners in place."""
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
    """Compute inner products of the output gradient with the corners' rows, (4, points, tokens)."""
    dim = len(row)
    for token in range(tile.count):
        grad = load_row(grad_out, _place(tile, tile.first + token) * dim, row)
        for point in range(corners.shape[1]):
            for corner in range(4):
                start = _place(tile, corners[corner, point, token]) * dim
                products[corner, point, token] = dot(grad, load_row(value, start, row))


@compiled
def _point_gradients(weights, sides, slopes, products, grad_places, grad_weights):
    """Compute gradients of positions, (x and y, points, tokens), and of weights, (points, tokens)."""
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
    """Add the gradient of each output to the rows that it was sampled from."""
    dim = len(row)
    for token in range(tile.count):
        grad = load_row(grad_out, _place(tile, tile.first + token) * dim, row)
        for point in range(corners.shape[1]):
            for corner in range(4):
                start = _place(tile, corners[corner, point, token]) * dim
                added = add_scaled(load_row(grad_value, start, row), weights[corner, point, token], grad)
                store_row(grad_value, start, added)
