"""Gradients of the selective scan on the CPU, compiled by numba.

Each direction is followed from its last chunk to its first. The states inside a chunk are computed again
from the state before it.
"""

import numpy as np

from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.scan_chunks import (
    F,
    add_matrix_product,
    copy_rows,
    fill_rows,
    locate,
    read_numbers,
    softplus_parts,
)
from backbones.ops.cpu.vector_rows import (
    add_product,
    add_scaled,
    dot,
    exponentials,
    filled_row,
    load_row,
    multiply,
    store_row,
    zero_row,
)

# Step features whose gradients are computed together.
RANKS = (0,) * 8


@compiled
def backward_parts(inputs, weights, outputs, sizes, parts, row, begin, end):
    """Process parts `begin` to `end` of the channels, counted over all images.

    Args:
        inputs: gradient of the output, states before each chunk, u and the projected numbers.
        weights: see `_weights` of `backbones.ops.cpu.selective_scan`.
        outputs: gradients of u, of the projected numbers, (parts, B, H, W, 4, R + 2 S), and of the
            weights, each with one more axis, the image; all but the first are zero before.
    """
    projected, step_weight, step_bias = inputs[3], weights[0], weights[1]
    height, width, dim, rank, per_channel, chunk = sizes
    lanes, blocks = len(row), (rank + len(RANKS) - 1) // len(RANKS)
    groups, count_chunks = dim // lanes // parts, (height * width + chunk - 1) // chunk
    places = np.zeros(chunk, np.int64)
    low_rank, grad_low_rank = (
        np.zeros((chunk, blocks * len(RANKS)), F),
        np.zeros((blocks, chunk, len(RANKS)), F),
    )
    b_and_c, grad_b_and_c = np.zeros((chunk, 2 * per_channel), F), np.zeros((chunk, 2 * per_channel), F)
    steps, grad_steps = np.zeros((chunk, lanes), F), np.zeros((chunk, lanes), F)
    slopes = np.zeros((chunk, lanes), F)
    decays, decayed = (
        np.zeros((chunk * per_channel, lanes), F),
        np.zeros((chunk * per_channel, lanes), F),
    )
    local_weights = np.zeros((groups, rank, lanes), F)
    turned_weights = np.zeros((groups, blocks, lanes, len(RANKS)), F)
    grad_local = np.zeros((groups, blocks * len(RANKS), lanes), F)
    grad_state = np.zeros((groups, per_channel * lanes), F)
    for number in range(begin, end):
        image, part = number // parts, number % parts
        channel = part * groups * lanes
        for direction in range(4):
            grad_state[:] = F(0)
            grad_local[:] = F(0)
            for group in range(groups):
                start = direction * rank * dim + channel + group * lanes
                copy_rows(local_weights[group].reshape(-1), 0, lanes, step_weight, start, dim, rank, row)
                for r in range(rank):
                    for lane in range(lanes):
                        turned = local_weights[group, r, lane]
                        turned_weights[group, r // len(RANKS), lane, r % len(RANKS)] = turned
            for i in range(count_chunks - 1, -1, -1):
                count = locate(places, sizes, direction, i * chunk)
                read_numbers(projected, low_rank, b_and_c, places, count, sizes, image, direction)
                grad_low_rank[:] = F(0)
                grad_b_and_c[:] = F(0)
                grad_steps[:] = F(0)
                for group in range(groups):
                    first = channel + group * lanes
                    fill_rows(steps, step_bias, direction * dim + first, row)
                    add_matrix_product(steps, low_rank, local_weights[group], rank, row)
                    channels = (image, direction, first, i, row)
                    chunk_arrays = (steps, slopes, decays, decayed, b_and_c, places[:count])
                    grad_arrays = (grad_steps, grad_b_and_c, grad_state[group])
                    _follow_states(inputs, weights, sizes, channels, chunk_arrays)
                    _follow_gradients(
                        inputs, weights, outputs, sizes, channels, chunk_arrays, grad_arrays
                    )
                    for block in range(blocks):
                        matrix = turned_weights[group, block]
                        add_matrix_product(grad_low_rank[block], grad_steps, matrix, lanes, RANKS)
                    add_matrix_product(grad_local[group], low_rank.T, grad_steps, count, row)
                target = (part * (len(inputs[2]) // (height * width * dim)) + image) * height * width
                _add_numbers(
                    outputs[1], grad_low_rank, grad_b_and_c, places[:count], sizes, target, direction
                )
            for group in range(groups):
                start = (image * 4 + direction) * rank * dim + channel + group * lanes
                copy_rows(outputs[2], start, dim, grad_local[group].reshape(-1), 0, lanes, rank, row)


@compiled
def _follow_states(inputs, weights, sizes, channels, arrays):
    """Compute step sizes, their slopes, decays and decayed states of a chunk.

    Args:
        channels: image, direction, first channel, chunk and a row.
        arrays: see `_follow_gradients`; `steps` is the argument of softplus before, its value after.
    """
    _, states, u, _ = inputs
    rates = weights[2]
    image, direction, first, chunk, row = channels
    steps, slopes, decays, decayed, b_and_c, places = arrays
    height, width, dim, _, per_channel, chunk_size = sizes
    lanes, length = len(row), height * width
    count_chunks = (length + chunk_size - 1) // chunk_size
    flat_steps, flat_slopes = steps.reshape(-1), slopes.reshape(-1)
    flat_decays, flat_decayed = decays.reshape(-1), decayed.reshape(-1)
    state = np.empty(per_channel * lanes, F)
    kept = ((image * 4 + direction) * count_chunks + chunk) * per_channel * dim + first
    copy_rows(state, 0, lanes, states, kept, dim, per_channel, row)
    minus = filled_row(F(-1), row)
    for i in range(len(places)):
        above, below, rest = softplus_parts(load_row(flat_steps, i * lanes, row), row)
        step = add_scaled(above, F(1), rest)
        store_row(flat_steps, i * lanes, step)
        # The slope of softplus, 1 / (1 + exp(-x)) = exp(-softplus(-x)).
        slope = exponentials(multiply(minus, add_scaled(below, F(1), rest)))
        store_row(flat_slopes, i * lanes, slope)
        entering = multiply(step, load_row(u, (image * length + places[i]) * dim + first, row))
        for n in range(per_channel):
            rate = load_row(rates, (direction * per_channel + n) * dim + first, row)
            decay = exponentials(multiply(step, rate))
            before = multiply(decay, load_row(state, n * lanes, row))
            store_row(flat_decays, (i * per_channel + n) * lanes, decay)
            store_row(flat_decayed, (i * per_channel + n) * lanes, before)
            store_row(state, n * lanes, add_scaled(before, b_and_c[i, n], entering))


@compiled
def _follow_gradients(inputs, weights, outputs, sizes, channels, arrays, grad_arrays):
    """Follow the gradient of the state through a chunk, from its last position to its first.

    Args:
        channels: image, direction, first channel, chunk and a row.
        arrays: step sizes and the slopes of softplus, (chunk, lanes); decays and decayed earlier states,
            (chunk S, lanes); B and C, (chunk, 2 S); places, (count,).
        grad_arrays: output, gradients of the argument of softplus, (chunk, lanes), of B and C (added
            to), (chunk, 2 S), and of the state, after the chunk at first, then before it, (S lanes,).
    """
    grad_out, _, u, _ = inputs
    _, _, rates, skips = weights
    grad_u, _, _, grad_bias, grad_rates, grad_skips = outputs
    image, direction, first, _, row = channels
    steps, slopes, decays, decayed, b_and_c, places = arrays
    grad_steps, grad_b_and_c, grad_state = grad_arrays
    height, width, dim, _, per_channel, _ = sizes
    lanes = len(row)
    flat_steps, flat_slopes, flat_grad = steps.reshape(-1), slopes.reshape(-1), grad_steps.reshape(-1)
    flat_decays, flat_decayed = decays.reshape(-1), decayed.reshape(-1)
    skip = load_row(skips, direction * dim + first, row)
    own = (image * 4 + direction) * dim + first
    sum_bias, sum_skips = load_row(grad_bias, own, row), load_row(grad_skips, own, row)
    for i in range(len(places) - 1, -1, -1):
        place = (image * height * width + places[i]) * dim + first
        step, value = load_row(flat_steps, i * lanes, row), load_row(u, place, row)
        grad, entering = load_row(grad_out, place, row), multiply(step, value)
        grad_step, grad_entering = zero_row(row), zero_row(row)
        for n in range(per_channel):
            rate_place = (direction * per_channel + n) * dim + first
            at, own_rate = (i * per_channel + n) * lanes, image * 4 * per_channel * dim + rate_place
            before = load_row(flat_decayed, at, row)
            now = add_scaled(before, b_and_c[i, n], entering)
            grad_now = load_row(grad_state, n * lanes, row)
            grad_now = add_scaled(grad_now, b_and_c[i, per_channel + n], grad)
            grad_b_and_c[i, n] += dot(grad_now, entering)
            grad_b_and_c[i, per_channel + n] += dot(grad, now)
            grad_entering = add_scaled(grad_entering, b_and_c[i, n], grad_now)
            grad_log = multiply(grad_now, before)
            grad_step = add_product(grad_step, grad_log, load_row(rates, rate_place, row))
            grad_rate = add_product(load_row(grad_rates, own_rate, row), grad_log, step)
            store_row(grad_rates, own_rate, grad_rate)
            store_row(grad_state, n * lanes, multiply(load_row(flat_decays, at, row), grad_now))
        grad_step = add_product(grad_step, grad_entering, value)
        grad_step = multiply(grad_step, load_row(flat_slopes, i * lanes, row))
        store_row(flat_grad, i * lanes, grad_step)
        sum_bias = add_scaled(sum_bias, F(1), grad_step)
        sum_skips = add_product(sum_skips, grad, value)
        grad_value = add_product(multiply(skip, grad), grad_entering, step)
        if direction > 0:
            grad_value = add_scaled(grad_value, F(1), load_row(grad_u, place, row))
        store_row(grad_u, place, grad_value)
    store_row(grad_bias, own, sum_bias)
    store_row(grad_skips, own, sum_skips)


@compiled
def _add_numbers(total, grad_low_rank, grad_b_and_c, places, sizes, first, direction):
    """Add a chunk's gradients of the step features, B and C to those of the projected numbers.

    Args:
        total: (parts, B, H, W, 4, R + 2 S), flat.
        grad_low_rank: (blocks of features, chunk, features in a block).
        grad_b_and_c: (chunk, 2 S).
        first: index of the first position of the part and image.
    """
    rank, numbers = sizes.rank, sizes.rank + 2 * sizes.states
    for i in range(len(places)):
        start = ((first + places[i]) * 4 + direction) * numbers
        for r in range(rank):
            total[start + r] += grad_low_rank[r // len(RANKS), i, r % len(RANKS)]
        for j in range(2 * sizes.states):
            total[start + rank + j] += grad_b_and_c[i, j]
