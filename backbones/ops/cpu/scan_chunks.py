"""Parts of the selective scan on the CPU that its forward and backward passes share.

Channels are processed in groups that fill a SIMD vector, positions in chunks. Directions that run
backwards or along columns read the map where it lies; `locate` says where.
"""

from typing import NamedTuple

import numpy as np

from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.vector_rows import (
    add_product,
    add_scaled,
    exponentials,
    filled_row,
    load_number,
    load_row,
    maximum,
    multiply,
    store_row,
    zero_row,
)

# Cast constants to 32 bits, so that numba does not promote to 64.
F = np.float32
# Rows of a small matrix product that are computed together, so that each loaded row is used four times.
TOGETHER = 4
# Coefficients of log(1 + z) / z for z from 0 to 1, highest first: interpolation at 9 Chebyshev nodes,
# within 4e-8.
_LOG1P_SERIES = (
    0.00512610214,
    -0.0290740647,
    0.0775160868,
    -0.136022476,
    0.190768807,
    -0.24835399,
    0.333181217,
    -0.49999445,
    0.999999966,
)
_LOG1P = tuple(map(F, _LOG1P_SERIES))


class Sizes(NamedTuple):
    """Sizes of the scan; `dim` is D, `rank` R, `states` S and `chunk` the positions in a chunk."""

    height: int
    width: int
    dim: int
    rank: int
    states: int
    chunk: int


@compiled
def locate(places, sizes, direction, first):
    """Compute where the positions of a chunk are in an image, row by row; return their number.

    Args:
        places: output, (chunk,).
        direction: 0 runs row by row, 1 column by column, 2 and 3 are 0 and 1 reversed.
        first: place of the first position in the order of this direction.
    """
    length = sizes.height * sizes.width
    count = min(sizes.chunk, length - first)
    for i in range(count):
        step = first + i if direction < 2 else length - 1 - first - i
        places[i] = (
            step if direction % 2 == 0 else step % sizes.height * sizes.width + step // sizes.height
        )
    return count


@compiled
def read_numbers(projected, low_rank, b_and_c, places, count, sizes, image, direction):
    """Read the step features, B and C of a chunk.

    Args:
        projected: (B, H, W, 4, R + 2 S), flat.
        low_rank: output, (chunk, at least R); the columns from R on stay as they are.
        b_and_c: output, (chunk, 2 S).
    """
    length, numbers = sizes.height * sizes.width, sizes.rank + 2 * sizes.states
    for i in range(count):
        start = ((image * length + places[i]) * 4 + direction) * numbers
        for j in range(sizes.rank):
            low_rank[i, j] = load_number(projected, start + j)
        for j in range(2 * sizes.states):
            b_and_c[i, j] = load_number(projected, start + sizes.rank + j)


@compiled
def add_matrix_product(total, left, right, inner, row):
    """Add `left[:, :inner] @ right[:inner]` to `total`, where a row is one SIMD vector.

    Args:
        total: (rows, len(row)); the number of rows is a multiple of `TOGETHER`.
        left: (rows, at least inner).
        right: (at least inner, len(row)).
    """
    size, flat, added = len(row), total.reshape(-1), right.reshape(-1)
    for i in range(0, total.shape[0], TOGETHER):
        start = i * size
        row_0, row_1 = load_row(flat, start, row), load_row(flat, start + size, row)
        row_2, row_3 = load_row(flat, start + 2 * size, row), load_row(flat, start + 3 * size, row)
        for j in range(inner):
            other = load_row(added, j * size, row)
            row_0 = add_scaled(row_0, left[i, j], other)
            row_1 = add_scaled(row_1, left[i + 1, j], other)
            row_2 = add_scaled(row_2, left[i + 2, j], other)
            row_3 = add_scaled(row_3, left[i + 3, j], other)
        store_row(flat, start, row_0)
        store_row(flat, start + size, row_1)
        store_row(flat, start + 2 * size, row_2)
        store_row(flat, start + 3 * size, row_3)


@compiled
def fill_rows(target, source, start, row):
    """Set every row of `target`, (rows, len(row)), to the row of the flat `source` from `start`."""
    value, flat = load_row(source, start, row), target.reshape(-1)
    for i in range(target.shape[0]):
        store_row(flat, i * len(row), value)


@compiled
def copy_rows(target, target_start, target_step, source, source_start, source_step, count, row):
    """Copy `count` rows between flat arrays."""
    for i in range(count):
        value = load_row(source, source_start + i * source_step, row)
        store_row(target, target_start + i * target_step, value)


@compiled
def softplus_parts(x, row):
    """Return max(x, 0), max(-x, 0) and log(1 + exp(-|x|)).

    The sum of the first and last is the softplus of x, that of the others the softplus of -x.
    """
    negated = multiply(filled_row(F(-1), row), x)
    above, below = maximum(x, zero_row(row)), maximum(negated, zero_row(row))
    power = exponentials(multiply(filled_row(F(-1), row), maximum(x, negated)))
    series = filled_row(_LOG1P[0], row)
    for i in range(1, len(_LOG1P)):
        series = add_product(filled_row(_LOG1P[i], row), series, power)
    return above, below, multiply(power, series)
