"""Selective scan of a map in plain PyTorch, on any device and in any dtype.

The recurrence h_l = exp(log_decay_l) h_{l-1} + x_l is computed by chunks of `CHUNK` positions, all
chunks at once. Inside a chunk, every pair of positions has its own decay, the exponential of the sum of
the logs between them. These sums are never positive, so nothing overflows; dividing two cumulated decays
instead would divide 0 by 0 after a strong decay. The last states of the chunks follow the same
recurrence, with the decays of whole chunks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16
# Maximum elements of the array with a decay for every pair of positions.
PAIRED_NUMBERS = 2**22


def forward(
    u: Tensor, projected: Tensor, step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor
) -> Tensor:
    """See `backbones.ops.selective_scan`. Differentiable."""
    dtype = torch.promote_types(u.dtype, torch.float32)
    u, projected, step_weight, step_bias, a_logs, skips = (
        tensor.to(dtype) for tensor in (u, projected, step_weight, step_bias, a_logs, skips)
    )
    dim, states, rank = u.shape[3], a_logs.shape[1], step_weight.shape[2]
    decay_rates, skips = -a_logs.exp().view(4, dim, states), skips.view(4, dim)
    total = 0
    for direction in range(4):
        inputs = in_order(u, direction)
        numbers = in_order(projected[:, :, :, direction], direction)
        low_rank, b, c = numbers.split([rank, states, states], dim=-1)
        delta = F.softplus(F.linear(low_rank, step_weight[direction], step_bias[direction]))
        entering = (delta * inputs)[..., None] * b[:, :, None]
        state = recurrence(delta[..., None] * decay_rates[direction], entering)
        out = (state * c[:, :, None]).sum(-1) + skips[direction] * inputs
        total = total + on_map(out, direction, u.shape[1:3])
    return total


def in_order(x: Tensor, direction: int) -> Tensor:
    """Return the positions of a map in the order of a direction, (B, H, W, C) -> (B, H W, C).

    Args:
        x: map.
        direction: 0 runs row by row, 1 column by column, 2 and 3 are 0 and 1 reversed.
    """
    x = (x.transpose(1, 2) if direction % 2 else x).flatten(1, 2)
    return x.flip(1) if direction >= 2 else x


def on_map(x: Tensor, direction: int, size: tuple[int, int]) -> Tensor:
    """Invert `in_order`, (B, H W, C) -> (B, H, W, C)."""
    x = x.flip(1) if direction >= 2 else x
    return x.unflatten(1, (size[1], size[0])).transpose(1, 2) if direction % 2 else x.unflatten(1, size)


def recurrence(log_decay: Tensor, x: Tensor) -> Tensor:
    """Compute h_l = exp(log_decay_l) h_{l-1} + x_l for all l along axis 1, with h_{-1} = 0.

    Differentiable, any number of times.

    Args:
        log_decay: (B, L, ...), not positive.
        x: the same shape.
    """
    return _Recurrence.apply(log_decay, x)


class _Recurrence(torch.autograd.Function):
    """The gradient of a recurrence is the same recurrence, from the last position to the first."""

    @staticmethod
    def forward(ctx, log_decay: Tensor, x: Tensor) -> Tensor:
        state = _scan(log_decay.flatten(2), x.flatten(2)).view(x.shape)
        ctx.save_for_backward(log_decay, state)
        return state

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        log_decay, state = ctx.saved_tensors
        grad_x = recurrence(_delayed(log_decay.flip(1)), grad.flip(1)).flip(1)
        return grad_x * log_decay.exp() * _delayed(state), grad_x


def _delayed(x: Tensor) -> Tensor:
    """Move all positions along axis 1 to the next one; the first becomes 0."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


def _scan(log_decay: Tensor, x: Tensor) -> Tensor:
    """Compute the recurrence along axis 1 of (B, L, C)."""
    length = x.shape[1]
    if not x.numel():
        return torch.zeros_like(x)
    padding = (0, 0, 0, -length % CHUNK)
    log_decay, x = (F.pad(tensor, padding).unflatten(1, (-1, CHUNK)) for tensor in (log_decay, x))
    at_once = max(1, PAIRED_NUMBERS // (CHUNK * x[:, 0].numel()))
    parts = zip(log_decay.split(at_once, 1), x.split(at_once, 1), strict=True)
    state = torch.cat([_scan_chunks(*part) for part in parts], dim=1)
    if state.shape[1] > 1:
        since_start = log_decay.cumsum(2)
        before = _delayed(_scan(since_start[:, :, -1], state[:, :, -1]))
        state.addcmul_(since_start.exp_(), before[:, :, None])
    return state.flatten(1, 2)[:, :length]


def _scan_chunks(log_decay: Tensor, x: Tensor) -> Tensor:
    """Compute the recurrence in each chunk from a state of 0, (B, chunks, CHUNK, C)."""
    later = torch.ones(CHUNK, CHUNK, dtype=torch.bool, device=x.device).tril(-1)[..., None]
    # Sum the logs between two positions directly: the difference of their cumulated sums would lose
    # the small logs after a large one.
    between = log_decay[:, :, :, None].where(later, 0).cumsum(2)
    decay = between.exp_().where(
        later | torch.eye(CHUNK, dtype=torch.bool, device=x.device)[..., None], 0
    )
    return (decay * x[:, :, None]).sum(3)
