"""Neighborhood attention on the CPU, compiled by numba; see `neighborhoods` for how it is cut up."""

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.attention import memory
from backbones.ops.cpu.attention_products import F
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.neighborhood_gradients import backward
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
    load_line,
    multiply_windows,
    spread_bias,
    store_line,
    sum_windows,
    supported,
)
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    exponentials,
    filled_row,
    load_row,
    maximum,
    multiply,
    store_row,
    zero_row,
)

__all__ = ['backward', 'forward']


def forward(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int
) -> tuple[Tensor, Tensor]:
    """See `backbones.ops.neighborhood_attention.attend`; float16 is converted to float32."""
    out = torch.empty(q.shape, dtype=q.dtype if q.dtype == torch.bfloat16 else torch.float32)
    # For every query, the largest logit and the sum of exponentials relative to it.
    statistics = torch.ones(2, *q.shape[:4])
    if q.numel():
        plan = plan_for(q.shape, kernel_size, dilation)
        inputs = tuple(memory(supported(x)) for x in (q, k, v))
        peaks, sums = statistics.flatten(1).numpy()
        table = rpb.detach().float().contiguous().numpy()
        widths = (0,) * q.shape[4], (0,) * kernel_size
        arguments = (inputs, memory(out), (peaks, sums), table, plan, *widths)
        for_ranges(
            lambda begin, end: _forward_parts(*arguments, begin, end), number_of_parts(q.shape, plan)
        )
    return out.to(q.dtype), statistics[0] + statistics[1].log()


@compiled
def _forward_parts(inputs, out, statistics, table, plan, row, window, begin, end):
    """Process parts `begin` to `end`."""
    q, k, v = inputs
    size, channels, pitch = len(window), len(row) + -len(row) % SIDE, plan.pitch
    keys, values = np.zeros((2, (size + 1) * channels * pitch), F)
    queries, sums = np.zeros((2, 2 * channels * pitch), F)
    scores, bias = np.zeros(2 * size * size * pitch, F), np.zeros((2 * size - 1) * size * pitch, F)
    stage, scale = np.zeros(channels * pitch, F), F(1) / np.sqrt(F(len(row)))
    for number in range(begin, end):
        part = part_of(plan, size, number, 1, (0, 0))
        spread_bias(table[part.head], part, pitch, bias, size)
        loaded, near = window_start(part.top, part.rows, size), (part.first, part.last)
        for y in range(part.top, part.bottom, 2):
            lines = (y, min(y + 1, part.bottom - 1))
            starts = (
                window_start(lines[0], part.rows, size),
                window_start(lines[1], part.rows, size),
            )
            while loaded < starts[1] + size:
                at = loaded % (size + 1) * channels * pitch
                load_line(k, plan, part, loaded, near, F(1), keys, at, stage, row, size)
                load_line(v, plan, part, loaded, near, F(1), values, at, stage, row, size)
                loaded += 1
            span = (part.left, part.right)
            for i in range(2):
                at = i * channels * pitch
                load_line(q, plan, part, lines[i], span, scale, queries, at, stage, row, size)
            multiply_windows(queries, keys, bias, True, scores, plan, part, lines, starts, row, window)
            for i in range(2):
                _softmax(scores, i, statistics, plan, part, lines[i], size)
            sum_windows(scores, values, sums, plan, part, starts, row, window)
            for i in range(2):
                at = i * channels * pitch
                store_line(sums, at, out, plan, part, lines[i], F(1), stage, row, size)


@compiled
def _softmax(scores, i, statistics, plan, part, y, size):
    """Turn the scores of row `i` of (2, size, size, pitch) into weights, and write its statistics."""
    largest, total = np.empty(SIDE, F), np.empty(SIDE, F)
    at, step = first_element((0, plan.heads, 1), plan, part, y, part.left)
    first, pitch = i * size * size * plan.pitch, plan.pitch
    for column in range(part.left, part.right, SIDE):
        begin = first + column_in_buffer(part, column, size)
        end = begin + size * size * pitch
        peak, summed = load_row(scores, begin, LANES), zero_row(LANES)
        for place in range(begin + pitch, end, pitch):
            peak = maximum(peak, load_row(scores, place, LANES))
        minus_peak = multiply(peak, filled_row(F(-1), LANES))
        for place in range(begin, end, pitch):
            power = exponentials(add_scaled(minus_peak, F(1), load_row(scores, place, LANES)))
            store_row(scores, place, power)
            summed = add_scaled(summed, F(1), power)
        store_row(largest, 0, peak)
        store_row(total, 0, summed)
        for lane in range(min(SIDE, part.right - column)):
            statistics[0][at + (column - part.left + lane) * step] = largest[lane]
            statistics[1][at + (column - part.left + lane) * step] = total[lane]
        for lane in range(SIDE):
            total[lane] = F(1) / total[lane]
        share = load_row(total, 0, LANES)
        for place in range(begin, end, pitch):
            store_row(scores, place, multiply(load_row(scores, place, LANES), share))
