"""Shared parts of neighborhood attention and its gradients on the CPU, compiled by numba.

Within a part of the map, channels come before columns, so that the columns are SIMD lanes: a vector
holds adjacent queries, and the keys in the same place of their windows are also adjacent, one unaligned
load away. Near the left and right border, where windows stop moving, the window's keys are spread to
those lanes. Two rows of queries are processed at once, so that most loaded vectors of keys are used
twice. Only the rows of keys that these two rows need are in the cache. Sums are float32.
"""

import torch
from torch import Tensor

from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.neighborhood_parts import (
    LANES,
    SIDE,
    column_in_buffer,
    ends_of,
    first_element,
    window_start,
)
from backbones.ops.cpu.vector_groups import (
    add_multiples,
    add_weighted,
    load_group,
    load_group_with_ends,
    store_group,
    transpose_block,
)
from backbones.ops.cpu.vector_rows import filled_row, load_row, multiply, store_row, zero_row


def supported(tensor: Tensor) -> Tensor:
    """Return a tensor (B, H, W, heads, D) as `memory` and the compiled code expect it.

    Copied only if it is not float32 or bfloat16, or its channels or tokens are not evenly spaced.
    """
    if tensor.dtype not in (torch.float32, torch.bfloat16):
        tensor = tensor.float()
    distance = tensor.stride(2)
    even = tensor.stride(1) == distance * tensor.shape[2] or tensor.shape[1] == 1
    even &= tensor.stride(0) == distance * tensor.shape[1] * tensor.shape[2] or tensor.shape[0] == 1
    return tensor if even and tensor.stride(4) == 1 else tensor.contiguous()


@compiled
def load_line(source, plan, part, y, span, factor, target, start, stage, row, size):
    """Load columns `span` of row `y` times `factor`, (columns, D) -> (D, pitch), in whole vectors.

    The last column is repeated to fill the last vector.

    Args:
        target, start: flat buffer, and the index of the row's first element.
        stage: flat scratch memory for all columns.
    """
    numbers, place = source
    count, channels = span[1] - span[0], len(row) + -len(row) % SIDE
    at, step = first_element(place, plan, part, y, span[0])
    factors = filled_row(factor, row)
    for i in range(count + -count % SIDE):
        loaded = load_row(numbers, at + min(i, count - 1) * step, row)
        store_row(stage, i * channels, multiply(loaded, factors))
    start += column_in_buffer(part, span[0], size)
    for i in range(0, count, SIDE):
        for channel in range(0, channels, SIDE):
            to = start + channel * plan.pitch + i
            transpose_block(stage, i * channels + channel, channels, target, to, plan.pitch, LANES)


@compiled
def turn_line(source, start, plan, part, span, stage, row, size):
    """Write columns `span` of a buffer's row to `stage`, (D, pitch) -> (columns, D padded)."""
    channels = len(row) + -len(row) % SIDE
    start += column_in_buffer(part, span[0], size)
    for i in range(0, span[1] - span[0], SIDE):
        for channel in range(0, channels, SIDE):
            at = start + channel * plan.pitch + i
            transpose_block(source, at, plan.pitch, stage, i * channels + channel, channels, LANES)


@compiled
def spread_bias(table, part, pitch, bias, size):
    """Write the bias of every column and place in its window, (2 * size - 1, size, pitch).

    Args:
        table: (2 * size - 1, 2 * size - 1), by key minus query.
    """
    for column in range(part.left, part.right + -(part.right - part.left) % SIDE):
        last = min(column, part.columns - 1)
        shift = window_start(last, part.columns, size) - last + size - 1
        at = column_in_buffer(part, column, size)
        for y in range(2 * size - 1):
            for slot in range(size):
                bias[(y * size + slot) * pitch + at] = table[y, shift + slot]


@compiled
def windows_at(array, start, column, ends, window):
    """Load the keys of a vector of queries from one row, for one channel: a vector for each place.

    Args:
        array, start: flat buffer, and the index of the row's first element.
        column: the vector of queries, in the buffer.
        ends: windows at the borders; None if none of the queries has one.
    """
    if ends is None:
        return load_group(array, start + column - len(window) // 2, 1, LANES, window)
    return load_group_with_ends(
        array,
        start + column - len(window) // 2,
        start + ends.left,
        ends.lanes_left,
        start + ends.right,
        ends.first_right,
        LANES,
        window,
    )


@compiled
def correlate(queries, first, keys, line, initial, begin, scores, to, column, ends, sizes, window):
    """Write inner products of one row of queries and one row of their windows, plus `initial`.

    Args:
        queries, first: flat buffer (D, pitch) from `first`; `keys`, `line` and `scores`, `to` alike.
        initial, begin: flat buffer (size, pitch) from `begin`, as `scores` from `to`.
        column: the vector of queries, in the buffer.
        sizes: D and pitch.
    """
    channels, pitch = sizes
    sums = load_group(initial, begin + column, pitch, LANES, window)
    for channel in range(channels):
        near = windows_at(keys, line + channel * pitch, column, ends, window)
        query = load_row(queries, first + channel * pitch + column, LANES)
        sums = add_multiples(sums, query, near)
    store_group(scores, to + column, pitch, sums)


@compiled
def correlate_pair(queries, first, keys, line, initial, begin, scores, to, column, ends, sizes, window):
    """`correlate` for two rows of queries; `first`, `begin` and `to` are pairs."""
    channels, pitch = sizes
    upper = load_group(initial, begin[0] + column, pitch, LANES, window)
    lower = load_group(initial, begin[1] + column, pitch, LANES, window)
    for channel in range(channels):
        near = windows_at(keys, line + channel * pitch, column, ends, window)
        at = channel * pitch + column
        upper = add_multiples(upper, load_row(queries, first[0] + at, LANES), near)
        lower = add_multiples(lower, load_row(queries, first[1] + at, LANES), near)
    store_group(scores, to[0] + column, pitch, upper)
    store_group(scores, to[1] + column, pitch, lower)


@compiled
def weigh_windows(weights, begin, values, line, sums, first, column, ends, sizes, window):
    """Add the sums of one row of values in the windows, times weights, to `sums` (D, pitch)."""
    channels, pitch = sizes
    shares = load_group(weights, begin + column, pitch, LANES, window)
    for channel in range(channels):
        near = windows_at(values, line + channel * pitch, column, ends, window)
        at = first + channel * pitch + column
        store_row(sums, at, add_weighted(load_row(sums, at, LANES), shares, near))


@compiled
def weigh_windows_pair(weights, begin, values, line, sums, first, column, ends, sizes, window):
    """`weigh_windows` for two rows of queries; `begin` and `first` are pairs."""
    channels, pitch = sizes
    upper = load_group(weights, begin[0] + column, pitch, LANES, window)
    lower = load_group(weights, begin[1] + column, pitch, LANES, window)
    for channel in range(channels):
        near = windows_at(values, line + channel * pitch, column, ends, window)
        at = channel * pitch + column
        one, other = load_row(sums, first[0] + at, LANES), load_row(sums, first[1] + at, LANES)
        store_row(sums, first[0] + at, add_weighted(one, upper, near))
        store_row(sums, first[1] + at, add_weighted(other, lower, near))


@compiled
def clear(buffer):
    """Set a flat buffer whose length is a multiple of the vector width to zero."""
    for start in range(0, buffer.size, SIDE):
        store_row(buffer, start, zero_row(LANES))


@compiled
def load_statistics(numbers, plan, part, y, target, start, size):
    """Load one number per query, (tokens, heads), as in `load_line`; times -1."""
    at, step = first_element((0, plan.heads, 1), plan, part, y, part.left)
    count = part.right - part.left
    start += column_in_buffer(part, part.left, size)
    for i in range(count + -count % SIDE):
        target[start + i] = -numbers[at + min(i, count - 1) * step]


@compiled
def multiply_windows(queries, keys, initial, moves, scores, plan, part, lines, starts, row, window):
    """Write the products of two rows of queries and their windows to `scores`, plus `initial`.

    Args:
        queries: (2, D, pitch).
        keys: (size + 1, D, pitch); row y of the map is at y modulo size + 1.
        initial: (size, pitch); if `moves`, one such block for each offset of rows.
        scores: (2, size, size, pitch), rows of windows before columns.
        lines, starts: for each row of queries, its row and the first row of its windows.
    """
    for column in range(part.left, part.right, SIDE):
        ends, has_ends = ends_of(part, column, len(window))
        at = column_in_buffer(part, column, len(window))
        places = (initial, moves, scores, plan.pitch, lines, starts, at)
        if has_ends:
            _multiply_column(queries, keys, places, ends, row, window)
        else:
            _multiply_column(queries, keys, places, None, row, window)


@compiled
def _multiply_column(queries, keys, places, ends, row, window):
    initial, moves, scores, pitch, lines, starts, column = places
    size, sizes = len(window), (len(row), pitch)
    channels, block = len(row) + -len(row) % SIDE, size * pitch
    first = (0, channels * pitch)
    for y in range(starts[0], starts[1] + size):
        line = y % (size + 1) * channels * pitch
        upper, lower = y - starts[0], y - starts[1]
        to = (upper * block, (size + lower) * block)
        begin = (0, 0)
        if moves:
            begin = ((y - lines[0] + size - 1) * block, (y - lines[1] + size - 1) * block)
        if upper < size and lower >= 0:
            correlate_pair(
                queries, first, keys, line, initial, begin, scores, to, column, ends, sizes, window
            )
        else:
            i = 0 if upper < size else 1
            correlate(
                queries,
                first[i],
                keys,
                line,
                initial,
                begin[i],
                scores,
                to[i],
                column,
                ends,
                sizes,
                window,
            )


@compiled
def sum_windows(weights, values, sums, plan, part, starts, row, window):
    """Write weighted sums of the values in the windows of two rows of queries, (2, D, pitch).

    Args:
        weights: (2, size, size, pitch), as `scores` in `multiply_windows`.
        values: (size + 1, D, pitch), as `keys`.
    """
    clear(sums)
    for column in range(part.left, part.right, SIDE):
        ends, has_ends = ends_of(part, column, len(window))
        at = column_in_buffer(part, column, len(window))
        if has_ends:
            _sum_column(weights, values, sums, plan.pitch, starts, at, ends, row, window)
        else:
            _sum_column(weights, values, sums, plan.pitch, starts, at, None, row, window)


@compiled
def _sum_column(weights, values, sums, pitch, starts, column, ends, row, window):
    size, sizes = len(window), (len(row), pitch)
    channels, block = len(row) + -len(row) % SIDE, size * pitch
    first = (0, channels * pitch)
    for y in range(starts[0], starts[1] + size):
        line = y % (size + 1) * channels * pitch
        upper, lower = y - starts[0], y - starts[1]
        begin = (upper * block, (size + lower) * block)
        if upper < size and lower >= 0:
            weigh_windows_pair(weights, begin, values, line, sums, first, column, ends, sizes, window)
        else:
            i = 0 if upper < size else 1
            weigh_windows(weights, begin[i], values, line, sums, first[i], column, ends, sizes, window)


@compiled
def store_line(source, start, out, plan, part, y, factor, stage, row, size):
    """Write the queries' columns of a buffer's row times `factor` to row `y` in memory."""
    numbers, place = out
    channels, factors = len(row) + -len(row) % SIDE, filled_row(factor, row)
    turn_line(source, start, plan, part, (part.left, part.right), stage, row, size)
    at, step = first_element(place, plan, part, y, part.left)
    for i in range(part.right - part.left):
        store_row(numbers, at + i * step, multiply(load_row(stage, i * channels, row), factors))
