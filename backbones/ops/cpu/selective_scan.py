"""Selective scan on the CPU, compiled by numba.

A thread scans some channels of an image, one direction after the other. Step sizes and decays are
computed where they are used, and never written to memory. For the backward pass, the forward pass keeps
the state before each chunk of positions.
"""

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.compiled import compiled, has_wide_vectors
from backbones.ops.cpu.scan_chunks import (
    F,
    Sizes,
    add_matrix_product,
    copy_rows,
    fill_rows,
    locate,
    read_numbers,
    softplus_parts,
)
from backbones.ops.cpu.selective_scan_gradients import backward_parts
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    exponentials,
    load_row,
    multiply,
    store_row,
)
from backbones.ops.selective_scan_sizes import CHUNK, chunks

# Channels that are processed together. With many channels and AVX-512, groups are twice as large, which
# hides more of the recurrence's latency; with few, smaller groups occupy more threads.
LANES = 32 if has_wide_vectors() else 16
MANY_CHANNELS = 192
# Maximum parts of the channels. Each part reads the numbers that all channels share; in the backward
# pass, each part also has gradients of its own for them.
FORWARD_PARTS, BACKWARD_PARTS = 16, 4


def forward(
    u: Tensor, projected: Tensor, step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor
) -> tuple[Tensor, Tensor]:
    """See `backbones.ops.selective_scan`; also return the states, (B, 4, chunks, S, D).

    They are the states before each chunk, in the order of each direction.
    """
    sizes, row, parts = _split(u, projected, a_logs, FORWARD_PARTS)
    out = torch.empty(u.shape, dtype=torch.float32)
    count = chunks(sizes.height * sizes.width)
    states = torch.empty(len(u), 4, count, sizes.states, sizes.dim, dtype=torch.float32)
    inputs = tuple(map(_flat, map(_supported, (u, projected))))
    weights = tuple(map(_flat, _weights(step_weight, step_bias, a_logs, skips)))
    arguments = (inputs, weights, (_flat(out), _flat(states)), sizes, parts, row)
    for_ranges(lambda begin, end: _forward_parts(*arguments, begin, end), len(u) * parts)
    return out, states


def backward(
    grad_out: Tensor,
    states: Tensor,
    u: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    step_bias: Tensor,
    a_logs: Tensor,
    skips: Tensor,
) -> tuple[Tensor, ...]:
    """Return the gradients of the inputs of `forward`; deterministic.

    No two threads add to the same memory, and the order of sums does not depend on their number.
    """
    sizes, row, parts = _split(u, projected, a_logs, BACKWARD_PARTS)
    inputs = tuple(map(_flat, map(_supported, (grad_out, states, u, projected))))
    tensors = _weights(step_weight, step_bias, a_logs, skips)
    grad_u = torch.empty(u.shape, dtype=torch.float32)
    grad_projected = torch.zeros(parts, *projected.shape, dtype=torch.float32)
    # One gradient of the weights per image.
    grad_weights = [torch.zeros(len(u), *tensor.shape) for tensor in tensors]
    outputs = tuple(map(_flat, (grad_u, grad_projected, *grad_weights)))
    arguments = (inputs, tuple(map(_flat, tensors)), outputs, sizes, parts, row)
    for_ranges(lambda begin, end: backward_parts(*arguments, begin, end), len(u) * parts)
    grad_weight, grad_bias, grad_rates, grad_skips = (grad.sum(0) for grad in grad_weights)
    grad_rates = (grad_rates * tensors[2]).transpose(1, 2).reshape(a_logs.shape)
    return (
        grad_u.to(u.dtype),
        grad_projected.sum(0).to(projected.dtype),
        grad_weight.transpose(1, 2).to(step_weight.dtype, memory_format=torch.contiguous_format),
        grad_bias.to(step_bias.dtype),
        grad_rates.to(a_logs.dtype),
        grad_skips.view(skips.shape).to(skips.dtype),
    )


def _split(
    u: Tensor, projected: Tensor, a_logs: Tensor, most_parts: int
) -> tuple[Sizes, tuple[int, ...], int]:
    """Return the sizes, a tuple with the length of a row of channels, and the number of parts."""
    _, height, width, dim = u.shape
    states = a_logs.shape[1]
    most_lanes = 2 * LANES if dim >= MANY_CHANNELS and has_wide_vectors() else LANES
    lanes = max(1, np.gcd(dim, most_lanes).item())
    groups = dim // lanes
    parts = max((n for n in range(1, most_parts + 1) if groups % n == 0), default=1)
    sizes = Sizes(height, width, dim, projected.shape[4] - 2 * states, states, CHUNK)
    return sizes, (0,) * lanes, parts


def _weights(step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor) -> list[Tensor]:
    """Return the weights in float32 with channels last: (4, R, D), (4, D), A (4, S, D) and (4, D)."""
    dim = step_bias.shape[1]
    rates = -a_logs.float().exp().view(4, dim, -1).transpose(1, 2)
    tensors = step_weight.float().transpose(1, 2), step_bias.float(), rates, skips.float().view(4, dim)
    return [tensor.contiguous() for tensor in tensors]


def _supported(tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.bfloat16):
        tensor = tensor.float()
    return tensor.contiguous()


def _flat(tensor: Tensor) -> np.ndarray:
    """Return the memory of a contiguous tensor; bfloat16 becomes int16, which NumPy supports."""
    tensor = tensor.detach().view(-1)
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@compiled
def _forward_parts(inputs, weights, outputs, sizes, parts, row, begin, end):
    """Scan parts `begin` to `end` of the channels, counted over all images."""
    u, projected = inputs
    step_weight, step_bias, rates, skips = weights
    out, states = outputs
    height, width, dim, rank, per_channel, chunk = sizes
    lanes, length = len(row), height * width
    groups, count_chunks = dim // lanes // parts, (height * width + chunk - 1) // chunk
    places = np.zeros(chunk, np.int64)
    low_rank = np.zeros((chunk, rank), F)
    b_and_c = np.zeros((chunk, 2 * per_channel), F)
    steps = np.zeros((chunk, lanes), F)
    local_weights = np.zeros((groups, rank, lanes), F)
    state = np.zeros((groups, per_channel * lanes), F)
    for number in range(begin, end):
        image, channel = number // parts, number % parts * groups * lanes
        for direction in range(4):
            state[:] = F(0)
            for group in range(groups):
                start = direction * rank * dim + channel + group * lanes
                copy_rows(local_weights[group].reshape(-1), 0, lanes, step_weight, start, dim, rank, row)
            for i in range(count_chunks):
                count = locate(places, sizes, direction, i * chunk)
                read_numbers(projected, low_rank, b_and_c, places, count, sizes, image, direction)
                kept = ((image * 4 + direction) * count_chunks + i) * per_channel * dim
                for group in range(groups):
                    first = channel + group * lanes
                    copy_rows(states, kept + first, dim, state[group], 0, lanes, per_channel, row)
                    fill_rows(steps, step_bias, direction * dim + first, row)
                    add_matrix_product(steps, low_rank, local_weights[group], rank, row)
                    start = image * length * dim + first
                    channels = (direction, dim, start, row)
                    _scan(u, rates, skips, out, steps, b_and_c, state[group], places[:count], channels)


@compiled
def _scan(u, rates, skips, out, steps, b_and_c, state, places, channels):
    """Scan one chunk of one group of channels, and add the outputs to those of earlier directions.

    Args:
        u, out: flat maps.
        rates, skips: A, (4, S, D), and D, (4, D), flat.
        steps: step sizes before softplus, (chunk, lanes).
        b_and_c: (chunk, 2 S).
        state: updated in place, (S lanes,).
        places: (count,).
        channels: the direction, D, the index of the first channel in its image, and a row.
    """
    direction, dim, start, row = channels
    lanes, per_channel = len(row), b_and_c.shape[1] // 2
    first, flat = direction * dim + start % dim, steps.reshape(-1)
    rate_start = direction * per_channel * dim + start % dim
    skip = load_row(skips, first, row)
    for i in range(len(places)):
        place = start + places[i] * dim
        above, _, rest = softplus_parts(load_row(flat, i * lanes, row), row)
        step, value = add_scaled(above, F(1), rest), load_row(u, place, row)
        entering = multiply(step, value)
        total = multiply(skip, value)
        for n in range(per_channel):
            rate = load_row(rates, rate_start + n * dim, row)
            decay = exponentials(multiply(step, rate))
            now = multiply(decay, load_row(state, n * lanes, row))
            now = add_scaled(now, b_and_c[i, n], entering)
            store_row(state, n * lanes, now)
            total = add_scaled(total, b_and_c[i, per_channel + n], now)
        if direction > 0:
            total = add_scaled(total, F(1), load_row(out, place, row))
        store_row(out, place, total)
