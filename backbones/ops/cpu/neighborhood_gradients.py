"""Gradients of neighborhood attention on the CPU, compiled by numba.

Weights are computed again, part by part. Parts only share keys with adjacent parts, so every other part
along each axis is processed in parallel, and no two threads add to the same token.
"""

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.attention import memory
from backbones.ops.cpu.attention_products import F
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.neighborhood_parts import (
    LANES,
    SIDE,
    column_in_buffer,
    first_element,
    number_of_parts,
    part_of,
    plan_for,
    window_start,
)
from backbones.ops.cpu.neighborhoods import (
    clear,
    load_line,
    load_statistics,
    multiply_windows,
    spread_bias,
    store_line,
    sum_windows,
    supported,
    turn_line,
)
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_groups import add_weighted, load_group
from backbones.ops.cpu.vector_rows import (
    add_product,
    add_scaled,
    exponentials,
    load_row,
    multiply,
    store_row,
    zero_row,
)


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor,
    out: Tensor,
    log_sums: Tensor,
    kernel_size: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and rpb, each in the dtype of its tensor.

    Deterministic for any number of threads. `out` is not needed.
    """
    if not q.numel():
        return tuple(torch.zeros(x.shape, dtype=x.dtype) for x in (q, k, v, rpb))
    plan = plan_for(q.shape, kernel_size, dilation)
    grad_q = torch.empty(q.shape, dtype=q.dtype if q.dtype == torch.bfloat16 else torch.float32)
    grad_k, grad_v = torch.zeros(q.shape), torch.zeros(q.shape)
    tables = torch.zeros(number_of_parts(q.shape, plan), *rpb.shape[1:])
    inputs = tuple(memory(supported(x)) for x in (q, k, v, grad_out))
    gradients = tuple(memory(x) for x in (grad_q, grad_k, grad_v))
    table = rpb.detach().float().contiguous().numpy()
    statistics = log_sums.contiguous().view(-1).numpy()
    widths = (0,) * q.shape[4], (0,) * kernel_size
    arguments = (inputs, gradients, statistics, table, tables.numpy(), plan, *widths)
    for parity in ((0, 0), (0, 1), (1, 0), (1, 1)):
        for_ranges(
            lambda begin, end, parity=parity: _backward_parts(*arguments, parity, begin, end),
            number_of_parts(q.shape, plan, 2, parity),
        )
    grad_rpb = tables.view(q.shape[0], q.shape[3], -1, *rpb.shape[1:]).sum((0, 2))
    found = (grad_q, grad_k, grad_v, grad_rpb)
    return tuple(x.to(y.dtype) for x, y in zip(found, (q, k, v, rpb), strict=True))


@compiled
def _backward_parts(inputs, gradients, statistics, table, tables, plan, row, window, parity, begin, end):
    """Process parts `begin` to `end` of those with this parity."""
    (q, k, v, grad), (grad_q, grad_k, grad_v) = inputs, gradients
    size, channels, pitch = len(window), len(row) + -len(row) % SIDE, plan.pitch
    line = channels * pitch
    keys, values, grad_keys, grad_values = np.zeros((4, (size + 1) * line), F)
    queries, grads, grad_queries = np.zeros((3, 2 * line), F)
    weights, slopes = np.zeros((2, 2 * size * size * pitch), F)
    bias, grad_bias = np.zeros((2, (2 * size - 1) * size * pitch), F)
    nothing, minus = np.zeros(size * pitch, F), np.zeros(2 * pitch, F)
    stage, scale = np.zeros(line, F), F(1) / np.sqrt(F(len(row)))
    for number in range(begin, end):
        part = part_of(plan, size, number, 2, parity)
        spread_bias(table[part.head], part, pitch, bias, size)
        for buffer in (queries, grads, weights, slopes, grad_bias):
            clear(buffer)
        loaded = window_start(part.top, part.rows, size)
        stored, near, span = loaded, (part.first, part.last), (part.left, part.right)
        for y in range(part.top, part.bottom, 2):
            lines = (y, min(y + 1, part.bottom - 1))
            starts = (
                window_start(lines[0], part.rows, size),
                window_start(lines[1], part.rows, size),
            )
            while stored < starts[0]:
                at = stored % (size + 1) * line
                _add_line(grad_keys, at, grad_k, plan, part, stored, stage, row, size)
                _add_line(grad_values, at, grad_v, plan, part, stored, stage, row, size)
                stored += 1
            while loaded < starts[1] + size:
                at = loaded % (size + 1) * line
                load_line(k, plan, part, loaded, near, F(1), keys, at, stage, row, size)
                load_line(v, plan, part, loaded, near, F(1), values, at, stage, row, size)
                loaded += 1
            for i in range(2):
                load_line(q, plan, part, lines[i], span, scale, queries, i * line, stage, row, size)
                load_line(grad, plan, part, lines[i], span, F(1), grads, i * line, stage, row, size)
                _clear_repeated(grads, i * line, part, channels, pitch, i and lines[1] == y, size)
                load_statistics(statistics, plan, part, lines[i], minus, i * pitch, size)
            multiply_windows(queries, keys, bias, True, weights, plan, part, lines, starts, row, window)
            multiply_windows(
                grads, values, nothing, False, slopes, plan, part, lines, starts, row, window
            )
            for i in range(2):
                offset = starts[i] - lines[i] + size - 1
                _differentiate_softmax(weights, slopes, minus, grad_bias, i, offset, part, pitch, size)
            sum_windows(slopes, keys, grad_queries, plan, part, starts, row, window)
            for i in range(1 + lines[1] - y):
                store_line(grad_queries, i * line, grad_q, plan, part, lines[i], scale, stage, row, size)
            _spread(weights, grads, grad_values, part, pitch, starts, row, window)
            _spread(slopes, queries, grad_keys, part, pitch, starts, row, window)
        while stored < loaded:
            at = stored % (size + 1) * line
            _add_line(grad_keys, at, grad_k, plan, part, stored, stage, row, size)
            _add_line(grad_values, at, grad_v, plan, part, stored, stage, row, size)
            stored += 1
        _sum_bias(grad_bias, tables[part.index], part, pitch, size)


@compiled
def _clear_repeated(grads, start, part, channels, pitch, repeated, size):
    """Clear the gradients of columns that repeat the last one, or of the whole row if it is repeated."""
    first = part.left if repeated else part.right
    end = part.right + -(part.right - part.left) % SIDE
    at = start + column_in_buffer(part, first, size)
    for channel in range(channels):
        for i in range(end - first):
            grads[at + channel * pitch + i] = F(0)


@compiled
def _differentiate_softmax(weights, slopes, minus, grad_bias, i, offset, part, pitch, size):
    """Turn scores into weights, and gradients of weights into those of scores, for row `i`.

    Args:
        weights, slopes: (2, size, size, pitch).
        minus: logarithms of the sums of exponentials times -1, (2, pitch).
        grad_bias: (2 * size - 1, size, pitch); the window's first row is at `offset`.
    """
    for column in range(part.left, part.right, SIDE):
        at = column_in_buffer(part, column, size)
        begin = i * size * size * pitch + at
        shift, total = load_row(minus, i * pitch + at, LANES), zero_row(LANES)
        for j in range(size * size):
            place = begin + j * pitch
            weight = exponentials(add_scaled(shift, F(1), load_row(weights, place, LANES)))
            store_row(weights, place, weight)
            total = add_product(total, weight, load_row(slopes, place, LANES))
        for j in range(size * size):
            place, to = begin + j * pitch, (offset * size + j) * pitch + at
            rest = add_scaled(load_row(slopes, place, LANES), F(-1), total)
            slope = multiply(load_row(weights, place, LANES), rest)
            store_row(slopes, place, slope)
            store_row(grad_bias, to, add_scaled(load_row(grad_bias, to, LANES), F(1), slope))


@compiled
def _spread(weights, rows, target, part, pitch, starts, row, window):
    """Add two rows of queries to the keys in their windows, times weights; the weights are lost.

    A vector of keys receives one vector of queries for each place in a window, except from the queries
    at the borders, which are spread one by one and cleared first.

    Args:
        weights: (2, size, size, pitch).
        rows: (2, D, pitch).
        target: (size + 1, D, pitch).
    """
    size, line = len(window), (len(row) + -len(row) % SIDE) * pitch
    end, sizes = column_in_buffer(part, part.last, size), (len(row), pitch)
    for y in range(starts[0], starts[1] + size):
        to, upper, lower = y % (size + 1) * line, y - starts[0], y - starts[1]
        begin = (upper * size * pitch, (size + lower) * size * pitch)
        if upper < size:
            _spread_ends(weights, begin[0], rows, 0, target, to, part, sizes, window)
        if lower >= 0:
            _spread_ends(weights, begin[1], rows, line, target, to, part, sizes, window)
        for column in range(column_in_buffer(part, part.first, size), end, SIDE):
            if upper < size and lower >= 0:
                _gather_pair(weights, begin, rows, (0, line), target, to, column, sizes, window)
            elif upper < size:
                _gather(weights, begin[0], rows, 0, target, to, column, sizes, window)
            else:
                _gather(weights, begin[1], rows, line, target, to, column, sizes, window)


@compiled
def _gather(weights, begin, rows, first, target, line, column, sizes, window):
    """Add to the keys at `column` the queries in whose windows they are, times weights."""
    channels, pitch = sizes
    half = len(window) // 2
    shares = load_group(weights, begin + column + half, pitch - 1, LANES, window)
    for channel in range(channels):
        at = channel * pitch + column
        near = load_group(rows, first + at + half, -1, LANES, window)
        store_row(target, line + at, add_weighted(load_row(target, line + at, LANES), shares, near))


@compiled
def _gather_pair(weights, begin, rows, first, target, line, column, sizes, window):
    """`_gather` from two rows of queries; `begin` and `first` are pairs."""
    channels, pitch = sizes
    half = len(window) // 2
    upper = load_group(weights, begin[0] + column + half, pitch - 1, LANES, window)
    lower = load_group(weights, begin[1] + column + half, pitch - 1, LANES, window)
    for channel in range(channels):
        at = channel * pitch + column
        sums = load_row(target, line + at, LANES)
        near = load_group(rows, first[0] + at + half, -1, LANES, window)
        sums = add_weighted(sums, upper, near)
        near = load_group(rows, first[1] + at + half, -1, LANES, window)
        store_row(target, line + at, add_weighted(sums, lower, near))


@compiled
def _spread_ends(weights, begin, rows, first, target, line, part, sizes, window):
    """Add the queries at both borders to the keys in their windows, and clear the weights."""
    size = len(window)
    half, columns = size // 2, part.columns
    arguments = (weights, begin, rows, first, target, line, part)
    _spread_end(*arguments, (part.left, min(half, part.right)), 0, sizes, window)
    last = (max(columns - half, part.left), part.right)
    _spread_end(*arguments, last, columns - size, sizes, window)


@compiled
def _spread_end(weights, begin, rows, first, target, line, part, span, start, sizes, window):
    """Add the queries in columns `span`, whose windows start at column `start`."""
    size, (channels, pitch) = len(window), sizes
    if span[0] >= span[1]:
        return
    shares = np.empty(size // 2 * size, F)
    at, to = column_in_buffer(part, span[0], size), line + column_in_buffer(part, start, size)
    for i in range(span[1] - span[0]):
        for slot in range(size):
            place = begin + slot * pitch + at + i
            shares[i * size + slot] = weights[place]
            weights[place] = F(0)
    for channel in range(channels):
        sums = load_row(target, to + channel * pitch, window)
        for i in range(span[1] - span[0]):
            number = rows[first + channel * pitch + at + i]
            sums = add_scaled(sums, number, load_row(shares, i * size, window))
        store_row(target, to + channel * pitch, sums)


@compiled
def _add_line(source, start, out, plan, part, y, stage, row, size):
    """Add a buffer's row to row `y` in memory, and clear it."""
    numbers, place = out
    channels = len(row) + -len(row) % SIDE
    turn_line(source, start, plan, part, (part.first, part.last), stage, row, size)
    clear(source[start : start + channels * plan.pitch])
    at, step = first_element(place, plan, part, y, part.first)
    for i in range(part.last - part.first):
        added = load_row(stage, i * channels, row)
        store_row(numbers, at + i * step, add_scaled(load_row(numbers, at + i * step, row), F(1), added))


@compiled
def _sum_bias(grad_bias, table, part, pitch, size):
    """Write the gradient of the bias table, (2 * size - 1, size, pitch) -> (2 * size - 1, ...)."""
    for column in range(part.left, part.right):
        shift = window_start(column, part.columns, size) - column + size - 1
        at = column_in_buffer(part, column, size)
        for y in range(2 * size - 1):
            for slot in range(size):
                table[y, shift + slot] += grad_bias[(y * size + slot) * pitch + at]
