"""Selective scan on CUDA, compiled by Triton.

Sequences are cut into chunks, which run in parallel. The forward pass reads its inputs twice, first for
the states between chunks, then for the outputs; step sizes and decays stay in registers. The output is
the only map in memory, and is added to in one direction after the other.

The backward pass follows one direction at a time, with two float32 maps of temporary memory: the
arguments of softplus, replaced by their gradients, so that cuBLAS computes all products with the step
weights; and the states of some chunks, `KEPT_NUMBERS` at most. There are no atomic additions, and the
results are deterministic.

Triton is imported when first needed, since it is not available on every platform.
"""

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.ops import selective_scan_sizes
from backbones.ops.triton import launch_sizes

# Channels of a program. One thread has one channel, so that no number passes between warps.
BLOCK, WARPS = 32, 1
# Positions whose loads are in flight together. With several numbers per state, their loads already are,
# and the registers hold more states.
POSITIONS = 4
# The same for chunks, whose states few programs combine: many loads hide the latency of memory.
CHUNKS = 16
# Maximum states in temporary memory during the backward pass, unless one chunk has more.
KEPT_NUMBERS = 2**25


def forward(
    u: Tensor, projected: Tensor, step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor
) -> tuple[Tensor, Tensor]:
    """See `backbones.ops.selective_scan`; also return the states, (B, 4, chunks, S, D).

    They are the states before each chunk, in the order of each direction.
    """
    u, projected = u.contiguous(), projected.contiguous()
    weight, bias, rates, skips = channels_last(step_weight, step_bias, a_logs, skips)
    batch, height, width, dim = u.shape
    out = torch.empty_like(u, dtype=torch.float32)
    count = selective_scan_sizes.chunks(height * width)
    step_sums = out.new_empty(batch, 4, count, dim)
    states = out.new_empty(batch, 4, count, rates.shape[1], dim)
    if not u.numel():
        return out, states
    kernels, constants = _kernels(), _constants(u, projected, rates, out, states)
    grid, sizes = (count * _blocks(dim), 4, batch), (height, width, count)
    with torch.cuda.device_of(u):
        kernels.scan_chunks[grid](
            u, projected, weight, bias, rates, step_sums, states, *sizes, **constants
        )
        _combine(step_sums, rates, states, is_reversed=False)
        for direction in range(4):
            kernels.forward[grid[0], 1, batch](
                u, projected, weight, bias, rates, skips, states, out, direction, *sizes, **constants
            )
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
    """Return the gradients of the inputs of `forward`, each in the dtype of its tensor."""
    tensors = (u, projected, step_weight, step_bias, a_logs, skips)
    if not u.numel():
        return tuple(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in tensors)
    maps = [tensor.contiguous() for tensor in (grad_out, states, u, projected)]
    weight, bias, rates, skip_rows = channels_last(*tensors[2:])
    rank = step_weight.shape[2]
    grad_u = torch.empty_like(maps[2], dtype=torch.float32)
    grad_projected = torch.empty_like(maps[3])
    grad_weight = torch.empty_like(step_weight, memory_format=torch.contiguous_format)
    sums = grad_u.new_empty(4, rates.shape[1] + 2, u.shape[3])
    # Autocast applies to the products, whose results would be too coarse in half precision.
    with _without_autocast(u.device.type):
        for direction in range(4):
            low_rank = maps[3][:, :, :, direction, :rank].float()
            # (R, D), as float32.
            matrix = weight[direction]
            steps = F.linear(low_rank, matrix.t(), bias[direction])
            of_direction = (rates[direction], skip_rows[direction])
            numbers, sums[direction] = _backward_direction(maps, steps, *of_direction, grad_u, direction)
            grad_projected[:, :, :, direction, :rank] = F.linear(steps, matrix)
            grad_projected[:, :, :, direction, rank:] = numbers
            grad_weight[direction] = steps.flatten(0, 2).t() @ low_rank.flatten(0, 2)
    grad_rates, grad_skips, grad_bias = sums.split([rates.shape[1], 1, 1], dim=1)
    return (
        grad_u.to(u.dtype),
        grad_projected,
        grad_weight,
        grad_bias[:, 0].to(step_bias.dtype, memory_format=torch.contiguous_format),
        (grad_rates * rates).transpose(1, 2).reshape(a_logs.shape).to(a_logs.dtype),
        grad_skips.reshape(skips.shape).to(skips.dtype),
    )


def channels_last(step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor) -> list[Tensor]:
    """Return the weights in float32 with channels last: (4, R, D), (4, D), A (4, S, D) and (4, D)."""
    dim = step_bias.shape[1]
    rates = -a_logs.float().exp().view(4, dim, -1).transpose(1, 2)
    tensors = step_weight.float().transpose(1, 2), step_bias.float(), rates, skips.float().view(4, dim)
    return [tensor.contiguous() for tensor in tensors]


def chunks_at_once(states: Tensor) -> int:
    """Return how many chunks, counted over all images, one launch of the backward pass processes.

    Args:
        states: (B, 4, chunks, S, D).
    """
    batch, _, count, numbers, dim = states.shape
    fitting = KEPT_NUMBERS // (selective_scan_sizes.CHUNK * numbers * dim)
    return min(max(1, fitting), batch * count)


def _backward_direction(
    maps: list[Tensor], steps: Tensor, rates: Tensor, skips: Tensor, grad_u: Tensor, direction: int
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of one direction; `steps` and `grad_u` are updated in place.

    Args:
        maps: grad_out, states, u and projected, contiguous.
        steps: arguments of softplus, (B, H, W, D), replaced by their gradients.
        rates: A of the direction, (S, D).
        skips: D of the direction, (D,).
        grad_u: (B, H, W, D); written by direction 0, added to by later ones.
        direction: 0 to 3.

    Returns:
        The gradients of B and C, (B, H, W, 2 S), and those of A, D and the step bias, (S + 2, D).
    """
    grad_out, states, u, projected = maps
    batch, height, width, dim = u.shape
    _, _, count, numbers, _ = states.shape
    blocks, at_once = _blocks(dim), chunks_at_once(states)
    step_sums = grad_u.new_empty(batch, 1, count, dim)
    grad_states = grad_u.new_empty(batch, 1, count, numbers, dim)
    kept = grad_u.new_empty(at_once, selective_scan_sizes.CHUNK, numbers, dim)
    grad_numbers = grad_u.new_empty(batch, height, width, blocks, 2 * numbers)
    grad_weights = grad_u.new_empty(batch * count, numbers + 2, dim)
    temporary = (kept, grad_numbers, grad_weights)
    constants = _constants(u, projected, rates, grad_out, states, *temporary)
    sizes, kernels = (direction, height, width, count), _gradient_kernels()
    with torch.cuda.device_of(u):
        kernels.backward_chunks[count * blocks, 1, batch](
            grad_out, projected, steps, rates, step_sums, grad_states, *sizes, **constants
        )
        _combine(step_sums, rates[None], grad_states, is_reversed=True)
        for first in range(0, batch * count, at_once):
            kernels.backward[(min(at_once, batch * count - first) * blocks,)](
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
                first,
                *sizes,
                **constants,
            )
    return grad_numbers.sum(3), grad_weights.sum(0)


def _combine(step_sums: Tensor, rates: Tensor, states: Tensor, is_reversed: bool) -> None:
    """Turn what each chunk adds, (B, directions, chunks, S, D), into the state before it."""
    batch, directions, count, numbers, dim = states.shape
    _kernels().combine_chunks[numbers * _blocks(dim), directions, batch](
        step_sums,
        rates,
        states,
        count,
        DIM=dim,
        STATES=numbers,
        RUN=CHUNKS,
        BLOCK=BLOCK,
        REVERSED=is_reversed,
        WIDE_INDEX=launch_sizes.needs_wide_index(states),
        num_warps=WARPS,
    )


def _constants(u: Tensor, projected: Tensor, rates: Tensor, *others: Tensor) -> dict[str, int]:
    """Return the constants that most kernels share; `rates` is (..., S, D)."""
    states = rates.shape[-2]
    return {
        'DIM': u.shape[3],
        'RANK': projected.shape[4] - 2 * states,
        'STATES': states,
        'CHUNK': selective_scan_sizes.CHUNK,
        'RUN': max(1, POSITIONS // states),
        'BLOCK': BLOCK,
        'WIDE_INDEX': launch_sizes.needs_wide_index(u, projected, *others),
        'num_warps': WARPS,
    }


def _blocks(dim: int) -> int:
    return launch_sizes.parts(dim, BLOCK)


def _without_autocast(device: str) -> torch.autocast:
    # The device is `meta` if launches are only recorded.
    return torch.autocast(device if torch.amp.is_autocast_available(device) else 'cpu', enabled=False)


def _kernels() -> ModuleType:
    from backbones.ops.triton import selective_scan_kernels

    return selective_scan_kernels


def _gradient_kernels() -> ModuleType:
    from backbones.ops.triton import selective_scan_gradient_kernels

    return selective_scan_gradient_kernels
