"""Parts of the CPU's deformable convolutions: bilinear samples around every token, compiled by numba.

One tile of tokens of one head is processed at a time. Its weights and corners are computed in arrays
that stay in the cache, points before tokens, so that each loop over tokens is a loop over SIMD lanes.
Then its rows of channels are gathered and summed. Positions are float32.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.compiled import inlined
from backbones.ops.cpu.vector_rows import add_scaled, dot, load_number, load_row, store_row, zero_row

# Cast constants to 32 bits, so that numba does not promote to 64.
F, I = np.float32, np.int32  # noqa: E741
TILE = 32


class Tile(NamedTuple):
    """`count` tokens of one head from token `first`; `image` is the index of the image's first token."""

    image: int
    first: int
    count: int
    heads: int
    head: int


class Grid(NamedTuple):
    """Size of the map, side of the undeformed grid, and distance between its points (float32)."""

    height: int
    width: int
    kernel_size: int
    scale: float


class Layout(NamedTuple):
    """Where the numbers of points lie in a flat array: those of a token's head are contiguous.

    They are at `token * token_stride + head * head_stride + start`.
    """

    token_stride: int
    head_stride: int
    start: int


class WorkArrays(NamedTuple):
    """Arrays for one tile, (4, points, tokens): see the functions that fill them."""

    corners: np.ndarray
    sides: np.ndarray
    slopes: np.ndarray
    products: np.ndarray


def supported(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor in float32 or bfloat16; other dtypes are converted to float32."""
    if tensor.dtype not in (torch.float32, torch.bfloat16):
        tensor = tensor.float()
    return tensor.contiguous()


def flat(tensor: Tensor) -> np.ndarray:
    """Return the memory of a contiguous tensor; bfloat16 becomes int16, which NumPy supports."""
    tensor = tensor.detach().view(-1)
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@inlined
def work_arrays(points):
    """Return arrays for tiles with this number of points."""
    corners = np.zeros((4, points, TILE), I)
    sides = np.zeros((4, points, TILE), F)
    return WorkArrays(corners, sides, np.zeros_like(sides), np.zeros_like(sides))


@inlined
def sum_samples(value, out, places, weights, work, tile, grid, row):
    """Write the weighted sum of the samples of every token of a tile to `out`.

    Args:
        value: maps of all images and heads, flat.
        out: output, like `value`.
        places: offsets, (x and y, points, tokens); overwritten.
        weights: (points, tokens).
        work: from `work_arrays`.
        tile: its tokens.
        grid: size of the map, and undeformed grid.
        row: tuple with one element for each channel of a head.
    """
    corners, sides, _, _ = work
    _positions(places, tile.first, grid)
    _find_corners(places, grid, corners, sides)
    _corner_weights(weights, sides)
    _gather(value, corners, sides, out, tile, row)


@inlined
def differentiate(grad_out, value, grad_value, places, weights, grad_weights, work, tile, grid, row):
    """Compute the gradients of `sum_samples` for one tile.

    Args:
        grad_out: gradient of its output.
        grad_value: the gradient of `value` is added to it.
        places: offsets; output, their gradients.
        grad_weights: output, (points, tokens).
        value, weights, work, tile, grid, row: as in `sum_samples`.
    """
    corners, sides, slopes, products = work
    _positions(places, tile.first, grid)
    _find_corners(places, grid, corners, sides)
    _find_slopes(places, grid, slopes)
    _corner_products(grad_out, value, corners, products, tile, row)
    _point_gradients(weights, work, grid.scale, places, grad_weights)
    _corner_weights(weights, sides)
    _scatter(grad_out, grad_value, corners, sides, tile, row)


@inlined
def _place(tile, token):
    """Return the row index, over all images, of a token of the tile's image and head."""
    return (tile.image + token) * tile.heads + tile.head


@inlined
def read_points(source, target, tile, layout):
    """Read (points, parts) of every token from memory into (parts, points, tokens) of a tile."""
    parts, points, _ = target.shape
    for token in range(tile.count):
        start = _numbers_at(tile, token, layout)
        for point in range(points):
            for part in range(parts):
                target[part, point, token] = load_number(source, start + point * parts + part)


@inlined
def write_points(source, target, tile, layout):
    """Write (parts, points, tokens) of a tile to (points, parts) of every token in memory."""
    parts, points, _ = source.shape
    for token in range(tile.count):
        start = _numbers_at(tile, token, layout)
        for point in range(points):
            for part in range(parts):
                target[start + point * parts + part] = source[part, point, token]


@inlined
def _numbers_at(tile, token, layout):
    """Return the index of the numbers of a token of the tile, counted from its first."""
    row = (tile.image + tile.first + token) * layout.token_stride
    return row + tile.head * layout.head_stride + layout.start


@inlined
def _positions(places, first, grid):
    """Turn offsets into positions in the map in place; (x and y, points, tokens)."""
    _, width, kernel_size, scale = grid
    across, down = np.empty(TILE, F), np.empty(TILE, F)
    for token in range(TILE):
        down[token] = F((first + token) // width)
        across[token] = F((first + token) % width)
    for point in range(places.shape[1]):
        to_x = scale * F(point // kernel_size - kernel_size // 2)
        to_y = scale * F(point % kernel_size - kernel_size // 2)
        for token in range(TILE):
            places[0, point, token] = scale * places[0, point, token] + (across[token] + to_x)
            places[1, point, token] = scale * places[1, point, token] + (down[token] + to_y)


@inlined
def _clamped(position, size):
    """Clamp a position to just outside the map; NaN too."""
    position = position if position > F(-2) else F(-2)
    return position if position < F(size + 1) else F(size + 1)


@inlined
def _floor(position):
    """Return the floor of a position from `_clamped`; adding 2 makes truncation round down."""
    return I(position + F(2)) - I(2)


@inlined
def _within(index, size):
    return min(max(index, I(0)), I(size - 1))


@inlined
def _find_corners(places, grid, corners, sides):
    """Compute the four tokens around each position and their bilinear weights.

    Args:
        places: (x and y, points, tokens).
        corners: output, token indices in the image, (4, points, tokens): upper left, upper right,
            lower left, lower right; moved into the map if outside.
        sides: output, weights of the left and right columns and of the upper and lower rows,
            (4, points, tokens); 0 outside the map.
    """
    height, width, _, _ = grid
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


@inlined
def _find_slopes(places, grid, slopes):
    """Compute the derivatives of the `sides` from `_find_corners`, with respect to x, x, y and y."""
    height, width, _, _ = grid
    for point in range(places.shape[1]):
        for token in range(TILE):
            left = _floor(_clamped(places[0, point, token], width))
            upper = _floor(_clamped(places[1, point, token], height))
            slopes[0, point, token] = F(-1) if 0 <= left < width else F(0)
            slopes[1, point, token] = F(1) if -1 <= left < width - 1 else F(0)
            slopes[2, point, token] = F(-1) if 0 <= upper < height else F(0)
            slopes[3, point, token] = F(1) if -1 <= upper < height - 1 else F(0)


@inlined
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


@inlined
def _gather(value, corners, weights, out, tile, row):
    """Write the weighted sum of the rows at the corners of each token."""
    dim = len(row)
    for token in range(tile.count):
        total = zero_row(row)
        for point in range(corners.shape[1]):
            for corner in range(4):
                start = _place(tile, corners[corner, point, token]) * dim
                sample = load_row(value, start, row)
                total = add_scaled(total, weights[corner, point, token], sample)
        store_row(out, _place(tile, tile.first + token) * dim, total)


@inlined
def _corner_products(grad_out, value, corners, products, tile, row):
    """Compute inner products of the output gradient with the corners' rows, (4, points, tokens)."""
    dim = len(row)
    for token in range(tile.count):
        grad = load_row(grad_out, _place(tile, tile.first + token) * dim, row)
        for point in range(corners.shape[1]):
            for corner in range(4):
                start = _place(tile, corners[corner, point, token]) * dim
                products[corner, point, token] = dot(grad, load_row(value, start, row))


@inlined
def _point_gradients(weights, work, scale, grad_places, grad_weights):
    """Compute gradients of offsets, (x and y, points, tokens), and of weights, (points, tokens)."""
    _, sides, slopes, products = work
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
            grad_places[0, point, token] = scale * (weights[point, token] * by_x)
            grad_places[1, point, token] = scale * (weights[point, token] * by_y)
            grad_weights[point, token] = upper * in_upper + lower * in_lower


@inlined
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
