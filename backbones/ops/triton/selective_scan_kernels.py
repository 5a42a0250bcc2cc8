"""Triton kernels of the selective scan, launched by `backbones.ops.triton.selective_scan`.

A program follows one chunk of one sequence for `BLOCK` channels, position by position, with the states
in registers. Chunks run in parallel in three phases: each chunk from a state of zero, in `scan_chunks`;
the states between chunks, in `combine_chunks`; each chunk again, from its own initial state, in
`forward`. The backward pass has the same phases for the gradient of the state, from the last position
to the first.

Positions are processed in runs of `RUN`: all loads of a run come before its stores, so that they are in
flight together. Positions after the end of a sequence have a step size of 0, which leaves the state as
it is; they read the last position instead.

In the shapes below, k counts the directions of a launch and c the chunks of a sequence.
"""

# ruff: noqa: N803, N806 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl

# Sizes of maps differ between images; compile only once for all of them.
_RUNTIME_SIZES = ('direction', 'height', 'width', 'count')


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
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
    image, number, channel, mask = _chunk(tl.program_id(2), count, DIM, BLOCK, WIDE_INDEX)
    direction = tl.program_id(1)
    weights, bias = _step_weights(step_weight, step_bias, direction, channel, mask, DIM, RANK)
    rate = _rows(rates, direction * STATES * DIM + channel, mask, STATES, DIM)
    state = _zeros(STATES, BLOCK)
    step_sum = tl.zeros([BLOCK], tl.float32)
    for start in range(number * CHUNK, number * CHUNK + CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            run += (_enter(u, projected, weights, bias, image, direction, start + k, height, width,
                           channel, mask, DIM, RANK, STATES),)  # fmt: skip
        for k in tl.static_range(RUN):
            value, step, numbers = run[k]
            step_sum += step
            state = _next(state, rate, step, step * value, numbers, STATES)
    chunk = (image * 4 + direction) * count + number
    tl.store(step_sums + chunk * DIM + channel, step_sum, mask)
    for n in tl.static_range(STATES):
        tl.store(states + (chunk * STATES + n) * DIM + channel, state[n], mask)


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
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


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
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
    image, number, channel, mask = _chunk(tl.program_id(2), count, DIM, BLOCK, WIDE_INDEX)
    length = height * width
    weights, bias = _step_weights(step_weight, step_bias, direction, channel, mask, DIM, RANK)
    rate = _rows(rates, direction * STATES * DIM + channel, mask, STATES, DIM)
    skip = tl.load(skips + direction * DIM + channel, mask, 0)
    chunk = (image * 4 + direction) * count + number
    state = _rows(states, chunk * STATES * DIM + channel, mask, STATES, DIM)
    for start in range(number * CHUNK, number * CHUNK + CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            entering = _enter(u, projected, weights, bias, image, direction, start + k, height, width,
                              channel, mask, DIM, RANK, STATES)  # fmt: skip
            place = out + (image * length + _place(start + k, direction, height, width)) * DIM + channel
            earlier = tl.load(place, mask & (direction > 0), 0)
            run += ((place, earlier, entering),)
        for k in tl.static_range(RUN):
            place, total, entering = run[k]
            value, step, numbers = entering
            state = _next(state, rate, step, step * value, numbers, STATES)
            total += skip * value
            for n in tl.static_range(STATES):
                total += numbers[STATES + n] * state[n]
            tl.store(place, total, mask & (start + k < length))


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
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
    image, number, channel, mask = _chunk(tl.program_id(2), count, DIM, BLOCK, WIDE_INDEX)
    length = height * width
    rate = _rows(rates, channel, mask, STATES, DIM)
    grad_state = _zeros(STATES, BLOCK)
    step_sum = tl.zeros([BLOCK], tl.float32)
    for passed in range(0, CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            at = number * CHUNK + CHUNK - 1 - passed - k
            token = image * length + _place(at, direction, height, width)
            step, _ = _softplus(tl.load(steps + token * DIM + channel, mask, 0))
            grad = tl.load(grad_out + token * DIM + channel, mask, 0).to(tl.float32)
            numbers = _b_and_c(projected, token, direction, RANK, STATES)
            run += ((tl.where(at < length, step, 0), tl.where(at < length, grad, 0), numbers),)
        for k in tl.static_range(RUN):
            step, grad, numbers = run[k]
            step_sum += step
            before = ()
            for n in tl.static_range(STATES):
                before += (tl.exp(step * rate[n]) * (grad_state[n] + numbers[STATES + n] * grad),)
            grad_state = before
    chunk = image * count + number
    tl.store(step_sums + chunk * DIM + channel, step_sum, mask)
    for n in tl.static_range(STATES):
        tl.store(grad_states + (chunk * STATES + n) * DIM + channel, grad_state[n], mask)


@triton.jit(do_not_specialize=(*_RUNTIME_SIZES, 'first_chunk'))
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
    length = height * width
    rate = _rows(rates, channel, mask, STATES, DIM)
    skip = tl.load(skips + channel, mask, 0)
    chunk = (image * 4 + direction) * count + number
    kept += here * CHUNK * STATES * DIM + channel
    _keep_states(_rows(states, chunk * STATES * DIM + channel, mask, STATES, DIM), u, projected, steps,
                 rate, kept, image, direction, number, height, width, channel, mask, DIM, RANK, STATES,
                 CHUNK, RUN)  # fmt: skip
    # The states are read by the threads that wrote them, unless the compiler distributes the channels
    # of loads and stores differently.
    tl.debug_barrier()
    after = (image * count + number) * STATES * DIM + channel
    grad_state = _rows(grad_states, after, mask, STATES, DIM)
    grad_rate = _zeros(STATES, BLOCK)
    grad_skip, grad_bias = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for passed in range(0, CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            inside = CHUNK - 1 - passed - k
            at = number * CHUNK + inside
            token = image * length + _place(at, direction, height, width)
            place = token * DIM + channel
            value = tl.load(u + place, mask, 0).to(tl.float32)
            grad = tl.load(grad_out + place, mask, 0).to(tl.float32)
            argument = tl.load(steps + place, mask, 0)
            earlier = tl.load(grad_u + place, mask & (direction > 0), 0)
            state = _rows(kept, inside * STATES * DIM, mask, STATES, DIM)
            numbers = _b_and_c(projected, token, direction, RANK, STATES)
            grad = tl.where(at < length, grad, 0)
            run += ((at < length, token, value, grad, argument, earlier, state, numbers),)
        for k in tl.static_range(RUN):
            exists, token, value, grad, argument, total, state, numbers = run[k]
            step, slope = _softplus(argument)
            step, slope = tl.where(exists, step, 0), tl.where(exists, slope, 0)
            entering = step * value
            grad_step, grad_entering = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
            before, new_grad_rate = (), ()
            shared = grad_numbers + (token * BLOCKS + block) * (2 * STATES)
            for n in tl.static_range(STATES):
                decay = tl.exp(step * rate[n])
                decayed = decay * state[n]
                grad_now = grad_state[n] + numbers[STATES + n] * grad
                tl.store(shared + n, tl.sum(grad_now * entering, 0), exists)
                now = decayed + numbers[n] * entering
                tl.store(shared + STATES + n, tl.sum(grad * now, 0), exists)
                grad_entering += numbers[n] * grad_now
                grad_log = grad_now * decayed
                grad_step += rate[n] * grad_log
                new_grad_rate += (grad_rate[n] + step * grad_log,)
                before += (decay * grad_now,)
            grad_state, grad_rate = before, new_grad_rate
            grad_argument = slope * (grad_step + grad_entering * value)
            grad_bias += grad_argument
            grad_skip += grad * value
            place = token * DIM + channel
            tl.store(steps + place, grad_argument, mask & exists)
            tl.store(grad_u + place, total + skip * grad + grad_entering * step, mask & exists)
    sums = grad_weights + (image * count + number) * (STATES + 2) * DIM + channel
    for n in tl.static_range(STATES):
        tl.store(sums + n * DIM, grad_rate[n], mask)
    tl.store(sums + STATES * DIM, grad_skip, mask)
    tl.store(sums + (STATES + 1) * DIM, grad_bias, mask)


@triton.jit
def _keep_states(
    state,
    u,
    projected,
    steps,
    rate,
    kept,
    image,
    direction,
    number,
    height,
    width,
    channel,
    mask,
    DIM: tl.constexpr,
    RANK: tl.constexpr,
    STATES: tl.constexpr,
    CHUNK: tl.constexpr,
    RUN: tl.constexpr,
):
    """Write the state before each position of a chunk to `kept`, (CHUNK, S, D)."""
    length = height * width
    for start in range(0, CHUNK, RUN):
        run = ()
        for k in tl.static_range(RUN):
            at = number * CHUNK + start + k
            token = image * length + _place(at, direction, height, width)
            value = tl.load(u + token * DIM + channel, mask, 0).to(tl.float32)
            step, _ = _softplus(tl.load(steps + token * DIM + channel, mask, 0))
            numbers = _b_and_c(projected, token, direction, RANK, STATES)
            run += ((tl.where(at < length, step, 0), value, numbers),)
        for k in tl.static_range(RUN):
            step, value, numbers = run[k]
            for n in tl.static_range(STATES):
                tl.store(kept + ((start + k) * STATES + n) * DIM, state[n], mask)
            state = _next(state, rate, step, step * value, numbers, STATES)


@triton.jit
def _chunk(image, count, DIM: tl.constexpr, BLOCK: tl.constexpr, WIDE_INDEX: tl.constexpr):
    """Return the image, the number of the chunk, the channels and their mask for this program."""
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    BLOCKS: tl.constexpr = (DIM + BLOCK - 1) // BLOCK
    channel = tl.program_id(0) % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    return image.to(index), tl.program_id(0) // BLOCKS, channel, channel < DIM


@triton.jit
def _place(position, direction, height, width):
    """Return the place in the map of a position of a sequence, or of its last position after its end."""
    length = height * width
    position = tl.minimum(position, length - 1)
    position = tl.where(direction >= 2, length - 1 - position, position)
    by_columns = position % height * width + position // height
    return tl.where(direction % 2 == 1, by_columns, position)


@triton.jit
def _enter(
    u,
    projected,
    weights,
    bias,
    image,
    direction,
    position,
    height,
    width,
    channel,
    mask,
    DIM: tl.constexpr,
    RANK: tl.constexpr,
    STATES: tl.constexpr,
):
    """Return u, the step size, and B and C at a position of a sequence."""
    token = image * height * width + _place(position, direction, height, width)
    argument = bias
    features = projected + (token * 4 + direction) * (RANK + 2 * STATES)
    for r in tl.static_range(RANK):
        argument += weights[r] * tl.load(features + r).to(tl.float32)
    step, _ = _softplus(argument)
    value = tl.load(u + token * DIM + channel, mask, 0).to(tl.float32)
    numbers = _b_and_c(projected, token, direction, RANK, STATES)
    return value, tl.where(position < height * width, step, 0), numbers


@triton.jit
def _next(state, rate, step, entering, b, STATES: tl.constexpr):
    """Return the states after a position; `b` has B first."""
    after = ()
    for n in tl.static_range(STATES):
        after += (tl.exp(step * rate[n]) * state[n] + b[n] * entering,)
    return after


@triton.jit
def _softplus(x):
    """Return log(1 + exp(x)) and its derivative, both exact to float32 for very negative x too."""
    small = tl.exp(-tl.abs(x))
    # log(1 + small) = 2 artanh(z) by its series; z is at most 1/3.
    z = small / (2 + small)
    z2 = z * z
    series = 1 / 7 + z2 * (1 / 9 + z2 * (1 / 11 + z2 * (1 / 13)))
    series = 1 + z2 * (1 / 3 + z2 * (1 / 5 + z2 * series))
    return tl.maximum(x, 0) + 2 * z * series, tl.where(x < 0, small, 1) / (1 + small)


@triton.jit
def _b_and_c(projected, token, direction, RANK: tl.constexpr, STATES: tl.constexpr):
    """Return B and C of a token, one scalar per number of the state each."""
    first = projected + (token * 4 + direction) * (RANK + 2 * STATES) + RANK
    numbers = ()
    for n in tl.static_range(2 * STATES):
        numbers += (tl.load(first + n).to(tl.float32),)
    return numbers


@triton.jit
def _step_weights(
    step_weight, step_bias, direction, channel, mask, DIM: tl.constexpr, RANK: tl.constexpr
):
    """Return the weights and the bias of the step sizes for these channels."""
    weights = _rows(step_weight, direction * RANK * DIM + channel, mask, RANK, DIM)
    return weights, tl.load(step_bias + direction * DIM + channel, mask, 0)


@triton.jit
def _rows(pointer, first, mask, COUNT: tl.constexpr, DIM: tl.constexpr):
    """Return `COUNT` rows of channels, `DIM` numbers apart."""
    rows = ()
    for n in tl.static_range(COUNT):
        rows += (tl.load(pointer + first + n * DIM, mask, 0),)
    return rows


@triton.jit
def _zeros(COUNT: tl.constexpr, BLOCK: tl.constexpr):
    rows = ()
    for _ in tl.static_range(COUNT):
        rows += (tl.zeros([BLOCK], tl.float32),)
    return rows
