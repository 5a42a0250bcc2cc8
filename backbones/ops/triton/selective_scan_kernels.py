"""Triton kernels of the selective scan, launched by `backbones.ops.triton.selective_scan`.

A program follows one chunk of one sequence for `BLOCK` channels, position by position, with the states
in registers. Chunks run in parallel in three phases: each chunk from a state of zero, in `scan_chunks`;
the states between chunks, in `combine_chunks`; each chunk again, from its own initial state, in
`forward`. `selective_scan_gradient_kernels` has the same phases for the backward pass.

Positions are processed in runs of `RUN`, a divisor of `CHUNK`: all loads of a run come before its
stores, so that they are in flight together. Positions after the end of a sequence have a step size of
0, which leaves the state as it is; they read the last position instead.

In the shapes below, k counts the directions of a launch and c the chunks of a sequence.
"""

# ruff: noqa: N803, N806 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl

from backbones.ops.triton.selective_scan_positions import (
    RUNTIME_SIZES,
    b_and_c,
    channels,
    exists,
    next_state,
    own_chunk,
    rows,
    softplus,
    store_rows,
    token_at,
    zeros,
)


@triton.jit(do_not_specialize=RUNTIME_SIZES)
def scan_chunks(
    u,
    projected,
    step_weight,
    step_bias,
    rates,
    step_sums,
    states,
    height,
    width,
    count,
    DIM: tl.constexpr,
    RANK: tl.constexpr,
    STATES: tl.constexpr,
    CHUNK: tl.constexpr,
    RUN: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Scan every chunk from a state of zero.

    Args:
        u, projected: inputs of the operator.
        step_weight, step_bias, rates: weights with channels last, (4, R, D), (4, D) and (4, S, D).
        step_sums: output, sum of the step sizes of each chunk, (B, 4, c, D).
        states: output, state after each chunk, (B, 4, c, S, D).
        count: number of chunks of a sequence.
    """
    image, number, lanes = own_chunk(count, DIM, BLOCK, WIDE_INDEX)
    direction = tl.program_id(1)
    walk = (image, direction, height, width)
    weights = rows(step_weight, direction * RANK * DIM, lanes, RANK, DIM)
    bias = channels(step_bias, direction * DIM, lanes)
    rate = rows(rates, direction * STATES * DIM, lanes, STATES, DIM)
    state = zeros(STATES, BLOCK)
    step_sum = tl.zeros([BLOCK], tl.float32)
    for start in range(number * CHUNK, number * CHUNK + CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            run += (_inputs(u, projected, weights, bias, start + k, walk, lanes, DIM, RANK, STATES),)
        for k in tl.static_range(RUN):
            _, value, step, numbers = run[k]
            step_sum += step
            state = next_state(state, rate, step, step * value, numbers, STATES)
    chunk = (image * 4 + direction) * count + number
    store_rows(step_sums, chunk * DIM, lanes, (step_sum,), 1, DIM)
    store_rows(states, chunk * STATES * DIM, lanes, state, STATES, DIM)


@triton.jit(do_not_specialize=RUNTIME_SIZES)
def combine_chunks(
    step_sums,
    rates,
    states,
    count,
    DIM: tl.constexpr,
    STATES: tl.constexpr,
    RUN: tl.constexpr,
    BLOCK: tl.constexpr,
    REVERSED: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Replace what each chunk adds to the state by the state before the chunk.

    Args:
        step_sums: sum of the step sizes of each chunk, (B, k, c, D).
        rates: A, (k, S, D).
        states: updated in place, (B, k, c, S, D).
        count: number of chunks of a sequence.
        REVERSED: whether the last chunk comes first.
    """
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    BLOCKS: tl.constexpr = (DIM + BLOCK - 1) // BLOCK
    n, channel = tl.program_id(0) // BLOCKS, tl.program_id(0) % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    mask = channel < DIM
    direction = tl.program_id(1)
    sequence = tl.program_id(2).to(index) * tl.num_programs(1) + direction
    rate = tl.load(rates + (direction * STATES + n) * DIM + channel, mask, 0)
    state = tl.zeros([BLOCK], tl.float32)
    for start in range(0, count, RUN):
        run = ()
        for k in tl.static_range(RUN):
            exists = mask & (start + k < count)
            number = count - 1 - start - k if REVERSED else start + k
            chunk = sequence * count + number
            place = states + (chunk * STATES + n) * DIM + channel
            step_sum = tl.load(step_sums + chunk * DIM + channel, exists, 0)
            run += ((place, exists, step_sum, tl.load(place, exists, 0)),)
        for k in tl.static_range(RUN):
            place, exists, step_sum, added = run[k]
            tl.store(place, state, exists)
            state = tl.exp(step_sum * rate) * state + added


@triton.jit(do_not_specialize=RUNTIME_SIZES)
def forward(
    u,
    projected,
    step_weight,
    step_bias,
    rates,
    skips,
    states,
    out,
    direction,
    height,
    width,
    count,
    DIM: tl.constexpr,
    RANK: tl.constexpr,
    STATES: tl.constexpr,
    CHUNK: tl.constexpr,
    RUN: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Write the outputs of direction 0, or add those of a later one.

    Args:
        u, projected: inputs of the operator.
        step_weight, step_bias, rates: as in `scan_chunks`.
        skips: D, (4, D).
        states: state before each chunk, (B, 4, c, S, D).
        out: output of the operator, float32.
        direction, count: the direction, and the number of chunks of a sequence.
    """
    image, number, lanes = own_chunk(count, DIM, BLOCK, WIDE_INDEX)
    channel, mask = lanes
    walk = (image, direction, height, width)
    weights = rows(step_weight, direction * RANK * DIM, lanes, RANK, DIM)
    bias, skip = channels(step_bias, direction * DIM, lanes), channels(skips, direction * DIM, lanes)
    rate = rows(rates, direction * STATES * DIM, lanes, STATES, DIM)
    chunk = (image * 4 + direction) * count + number
    state = rows(states, chunk * STATES * DIM, lanes, STATES, DIM)
    for start in range(number * CHUNK, number * CHUNK + CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            inputs = _inputs(u, projected, weights, bias, start + k, walk, lanes, DIM, RANK, STATES)
            place = inputs[0] * DIM + channel
            run += ((inputs, tl.load(out + place, mask & (direction > 0), 0)),)
        for k in tl.static_range(RUN):
            inputs, total = run[k]
            token, value, step, numbers = inputs
            state = next_state(state, rate, step, step * value, numbers, STATES)
            total += skip * value
            for n in tl.static_range(STATES):
                total += numbers[STATES + n] * state[n]
            tl.store(out + token * DIM + channel, total, mask & exists(start + k, walk))


@triton.jit
def _inputs(
    u,
    projected,
    weights,
    bias,
    position,
    walk,
    lanes,
    DIM: tl.constexpr,
    RANK: tl.constexpr,
    STATES: tl.constexpr,
):
    """Return the token at a position of a sequence, its u and step sizes, and B and C."""
    token = token_at(position, walk)
    _, direction, _, _ = walk
    argument = bias
    features = projected + (token * 4 + direction) * (RANK + 2 * STATES)
    for r in tl.static_range(RANK):
        argument += weights[r] * tl.load(features + r).to(tl.float32)
    step, _ = softplus(argument)
    numbers = b_and_c(projected, token, walk, RANK, STATES)
    return token, channels(u, token * DIM, lanes), tl.where(exists(position, walk), step, 0), numbers
