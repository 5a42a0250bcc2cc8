"""Triton kernels of the selective scan's gradients, launched by `backbones.ops.triton.selective_scan`.

The phases are those of `selective_scan_kernels`, for the gradient of the state, which is followed from
the last position to the first: `backward_chunks` starts from zero after each chunk, and `backward` from
the gradient that `combine_chunks` has found there. The arguments of softplus come from memory.
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
def backward_chunks(
    grad_out,
    projected,
    steps,
    rates,
    step_sums,
    grad_states,
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
    """Follow the gradient of the state through every chunk, from zero after the chunk.

    Args:
        grad_out: gradient of the output, (B, H, W, D).
        projected: input of the operator.
        steps: arguments of softplus for this direction, (B, H, W, D).
        rates: A of this direction, (S, D).
        step_sums: output, sum of the step sizes of each chunk, (B, c, D).
        grad_states: output, gradient of the state before each chunk, (B, c, S, D).
        direction, count: the direction, and the number of chunks of a sequence.
    """
    image, number, lanes = own_chunk(count, DIM, BLOCK, WIDE_INDEX)
    walk = (image, direction, height, width)
    rate = rows(rates, 0, lanes, STATES, DIM)
    grad_state = zeros(STATES, BLOCK)
    step_sum = tl.zeros([BLOCK], tl.float32)
    for passed in range(0, CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            position = number * CHUNK + CHUNK - 1 - passed - k
            token = token_at(position, walk)
            step, _ = softplus(channels(steps, token * DIM, lanes))
            grad = channels(grad_out, token * DIM, lanes)
            inside = exists(position, walk)
            numbers = b_and_c(projected, token, walk, RANK, STATES)
            run += ((tl.where(inside, step, 0), tl.where(inside, grad, 0), numbers),)
        for k in tl.static_range(RUN):
            step, grad, numbers = run[k]
            step_sum += step
            before = ()
            for n in tl.static_range(STATES):
                before += (tl.exp(step * rate[n]) * (grad_state[n] + numbers[STATES + n] * grad),)
            grad_state = before
    chunk = image * count + number
    store_rows(step_sums, chunk * DIM, lanes, (step_sum,), 1, DIM)
    store_rows(grad_states, chunk * STATES * DIM, lanes, grad_state, STATES, DIM)


@triton.jit(do_not_specialize=RUNTIME_SIZES)
def backward(
    grad_out,
    states,
    grad_states,
    u,
    projected,
    steps,
    rates,
    skips,
    kept,
    grad_u,
    grad_numbers,
    grad_weights,
    first_chunk,
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
    """Compute the gradients of one direction from the states and their gradients between chunks.

    Args:
        grad_out, states, u, projected: inputs of the operator's backward pass.
        grad_states: gradient of the state after each chunk, (B, c, S, D).
        steps: arguments of softplus, replaced by their gradients, (B, H, W, D).
        rates, skips: A, (S, D), and D, (D,), of this direction.
        kept: memory for the states of the chunks of this launch, (chunks, CHUNK, S, D).
        grad_u: output, float32; written by direction 0, added to by later ones.
        grad_numbers: output, gradients of B and C from each block of channels, (B, H, W, blocks, 2 S).
        grad_weights: output, each chunk's part of the gradients of A, D and the step bias,
            (B c, S + 2, D).
        first_chunk: the first chunk of this launch, counted over all images.
        direction, count: the direction, and the number of chunks of a sequence.
    """
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    BLOCKS: tl.constexpr = (DIM + BLOCK - 1) // BLOCK
    here, block = tl.program_id(0).to(index) // BLOCKS, tl.program_id(0) % BLOCKS
    image, number = (first_chunk + here) // count, ((first_chunk + here) % count).to(tl.int32)
    channel = block * BLOCK + tl.arange(0, BLOCK)
    mask = channel < DIM
    walk, lanes = (image, direction, height, width), (channel, mask)
    rate, skip = rows(rates, 0, lanes, STATES, DIM), channels(skips, 0, lanes)
    state = rows(states, ((image * 4 + direction) * count + number) * STATES * DIM, lanes, STATES, DIM)
    kept += here * CHUNK * STATES * DIM
    _keep_states(
        state, u, projected, steps, rate, kept, number, walk, lanes, DIM, RANK, STATES, CHUNK, RUN
    )
    # The states are read by the threads that wrote them, unless the compiler distributes the channels
    # of loads and stores differently.
    tl.debug_barrier()
    grad_state = rows(grad_states, (image * count + number) * STATES * DIM, lanes, STATES, DIM)
    grad_rate = zeros(STATES, BLOCK)
    grad_skip, grad_bias = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for passed in range(0, CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            place = CHUNK - 1 - passed - k
            token = token_at(number * CHUNK + place, walk)
            values = channels(u, token * DIM, lanes), channels(grad_out, token * DIM, lanes)
            argument = channels(steps, token * DIM, lanes)
            earlier = tl.load(grad_u + token * DIM + channel, mask & (direction > 0), 0)
            state = rows(kept, place * STATES * DIM, lanes, STATES, DIM)
            numbers = b_and_c(projected, token, walk, RANK, STATES)
            run += ((token, values, argument, earlier, state, numbers),)
        for k in tl.static_range(RUN):
            token, values, argument, earlier, state, numbers = run[k]
            inside = exists(number * CHUNK + CHUNK - 1 - passed - k, walk)
            value, grad = values[0], tl.where(inside, values[1], 0)
            step, slope = softplus(argument)
            step = tl.where(inside, step, 0)
            entering = step * value
            shared = grad_numbers + (token * BLOCKS + block) * (2 * STATES)
            _store_numbers(
                shared, inside, grad, entering, step, rate, state, grad_state, numbers, STATES
            )
            grad_state, grad_rate, grad_step, grad_entering = _pass_position(
                grad, step, rate, state, grad_state, grad_rate, numbers, STATES
            )
            grad_argument = tl.where(inside, slope * (grad_step + grad_entering * value), 0)
            grad_bias += grad_argument
            grad_skip += grad * value
            place = token * DIM + channel
            tl.store(steps + place, grad_argument, mask & inside)
            tl.store(grad_u + place, earlier + skip * grad + grad_entering * step, mask & inside)
    first = (image * count + number) * (STATES + 2) * DIM
    store_rows(grad_weights, first, lanes, grad_rate, STATES, DIM)
    store_rows(grad_weights, first + STATES * DIM, lanes, (grad_skip, grad_bias), 2, DIM)


@triton.jit
def _store_numbers(
    pointer, inside, grad, entering, step, rate, state, grad_state, numbers, STATES: tl.constexpr
):
    """Write the gradients of B and C at a position, summed over the channels of the program.

    Args:
        pointer: to 2 S numbers.
        inside: whether the position exists.
        grad: gradient of the output.
        entering: step size times u.
        step, rate: step size and A.
        state: before the position.
        grad_state: gradient of the state after the position, from later positions.
        numbers: B and C.
    """
    for n in tl.static_range(STATES):
        now = tl.exp(step * rate[n]) * state[n] + numbers[n] * entering
        grad_now = grad_state[n] + numbers[STATES + n] * grad
        tl.store(pointer + n, tl.sum(grad_now * entering, 0), inside)
        tl.store(pointer + STATES + n, tl.sum(grad * now, 0), inside)


@triton.jit
def _pass_position(grad, step, rate, state, grad_state, grad_rate, numbers, STATES: tl.constexpr):
    """Follow the gradient of the state through a position; see `_store_numbers`.

    Returns:
        The gradient of the state before the position, and that of A with the position added; the
        gradients of the step size, through the decay, and of `entering`.
    """
    grad_step, grad_entering = tl.zeros_like(grad), tl.zeros_like(grad)
    before, new_grad_rate = (), ()
    for n in tl.static_range(STATES):
        decay = tl.exp(step * rate[n])
        grad_now = grad_state[n] + numbers[STATES + n] * grad
        grad_entering += numbers[n] * grad_now
        grad_log = grad_now * (decay * state[n])
        grad_step += rate[n] * grad_log
        new_grad_rate += (grad_rate[n] + step * grad_log,)
        before += (decay * grad_now,)
    return before, new_grad_rate, grad_step, grad_entering


@triton.jit
def _keep_states(
    state,
    u,
    projected,
    steps,
    rate,
    kept,
    number,
    walk,
    lanes,
    DIM: tl.constexpr,
    RANK: tl.constexpr,
    STATES: tl.constexpr,
    CHUNK: tl.constexpr,
    RUN: tl.constexpr,
):
    """Write the state before each position of a chunk to `kept`, (CHUNK, S, D)."""
    for start in range(0, CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            token = token_at(number * CHUNK + start + k, walk)
            step, _ = softplus(channels(steps, token * DIM, lanes))
            numbers = b_and_c(projected, token, walk, RANK, STATES)
            run += ((step, channels(u, token * DIM, lanes), numbers),)
        for k in tl.static_range(RUN):
            step, value, numbers = run[k]
            store_rows(kept, (start + k) * STATES * DIM, lanes, state, STATES, DIM)
            state = next_state(state, rate, step, step * value, numbers, STATES)
