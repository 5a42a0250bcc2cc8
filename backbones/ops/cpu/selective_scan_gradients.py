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
    length, lanes, dim, rank = sizes.height * sizes.width, len(row), sizes.dim, sizes.rank
    groups, images = dim // lanes // parts, len(inputs[2]) // (length * dim)
    matrices, chunk_arrays = _matrices(sizes, groups, row), _chunk_arrays(sizes, row)
    grad_matrix = matrices[2]
    grad_state = np.zeros((groups, sizes.states * lanes), F)
    for number in range(begin, end):
        image, part = number // parts, number % parts
        first = part * groups * lanes
        for direction in range(4):
            grad_state[:] = F(0)
            grad_matrix[:] = F(0)
            _copy_matrices(weights[0], matrices, sizes, direction, first, row)
            for chunk in range((length + sizes.chunk - 1) // sizes.chunk - 1, -1, -1):
                channels = (image, direction, first, chunk, row)
                target = (part * images + image) * length
                _follow_chunk(
                    inputs, weights, outputs, sizes, channels, matrices, chunk_arrays, grad_state, target
                )
            for group in range(groups):
                start = (image * 4 + direction) * rank * dim + first + group * lanes
                copy_rows(outputs[2], start, dim, grad_matrix[group].reshape(-1), 0, lanes, rank, row)


@compiled
def _matrices(sizes, groups, row):
    """Return memory for step weights, (groups, R, lanes), and for the same turned, in blocks.

    The last array is for their gradients, with R rounded up to whole blocks.
    """
    lanes, blocks = len(row), (sizes.rank + len(RANKS) - 1) // len(RANKS)
    return (
        np.zeros((groups, sizes.rank, lanes), F),
        np.zeros((groups, blocks, lanes, len(RANKS)), F),
        np.zeros((groups, blocks * len(RANKS), lanes), F),
    )


@compiled
def _chunk_arrays(sizes, row):
    """Return memory for the numbers of a chunk.

    These are the places, step features, B and C; the arrays of `_follow_gradients` except for B, C and
    places; and the gradients of step features, of the argument of softplus, and of B and C.
    """
    lanes, chunk, states = len(row), sizes.chunk, sizes.states
    blocks = (sizes.rank + len(RANKS) - 1) // len(RANKS)
    numbers = (
        np.zeros(chunk, np.int64),
        np.zeros((chunk, blocks * len(RANKS)), F),
        np.zeros((chunk, 2 * states), F),
    )
    steps, slopes = np.zeros((chunk, lanes), F), np.zeros((chunk, lanes), F)
    decays, decayed = np.zeros((chunk * states, lanes), F), np.zeros((chunk * states, lanes), F)
    gradients = (
        np.zeros((blocks, chunk, len(RANKS)), F),
        np.zeros((chunk, lanes), F),
        np.zeros((chunk, 2 * states), F),
    )
    return numbers, (steps, slopes, decays, decayed), gradients


@compiled
def _copy_matrices(step_weight, matrices, sizes, direction, first, row):
    """Copy the step weights of a direction for the channels from `first`, as they are and turned."""
    local, turned, _ = matrices
    lanes, dim, rank = len(row), sizes.dim, sizes.rank
    for group in range(len(local)):
        start = direction * rank * dim + first + group * lanes
        copy_rows(local[group].reshape(-1), 0, lanes, step_weight, start, dim, rank, row)
        for r in range(rank):
            for lane in range(lanes):
                turned[group, r // len(RANKS), lane, r % len(RANKS)] = local[group, r, lane]


@compiled
def _follow_chunk(inputs, weights, outputs, sizes, channels, matrices, chunk_arrays, grad_state, target):
    """Compute the gradients of a chunk for all groups of channels of a part.

    Args:
        channels: image, direction, first channel of the part, chunk and a row.
        matrices: from `_matrices`; the last is added to.
        chunk_arrays: from `_chunk_arrays`.
        grad_state: gradient of the state, after the chunk at first, then before it, (groups, S lanes).
        target: index of the first position of the part and image in the gradient of the projected
            numbers.
    """
    image, direction, first, chunk, row = channels
    (all_places, low_rank, b_and_c), (steps, slopes, decays, decayed), gradients = chunk_arrays
    grad_low_rank, grad_steps, grad_b_and_c = gradients
    local, turned, grad_matrix = matrices
    lanes, rank = len(row), sizes.rank
    count = locate(all_places, sizes, direction, chunk * sizes.chunk)
    read_numbers(inputs[3], low_rank, b_and_c, all_places, count, sizes, image, direction)
    places = all_places[:count]
    grad_low_rank[:], grad_b_and_c[:], grad_steps[:] = F(0), F(0), F(0)
    for group in range(len(local)):
        channel = first + group * lanes
        fill_rows(steps, weights[1], direction * sizes.dim + channel, row)
        add_matrix_product(steps, low_rank, local[group], rank, row)
        own = (image, direction, channel, chunk, row)
        arrays = (steps, slopes, decays, decayed, b_and_c, places)
        grad_arrays = (grad_steps, grad_b_and_c, grad_state[group])
        _follow_states(inputs, weights, sizes, own, arrays)
        _follow_gradients(inputs, weights, outputs, sizes, own, arrays, grad_arrays)
        for block in range(len(grad_low_rank)):
            add_matrix_product(grad_low_rank[block], grad_steps, turned[group, block], lanes, RANKS)
        add_matrix_product(grad_matrix[group], low_rank.T, grad_steps, count, row)
    _add_numbers(outputs[1], grad_low_rank, grad_b_and_c, places, sizes, target, direction)


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
