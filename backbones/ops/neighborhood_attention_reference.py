"""Neighborhood attention in plain PyTorch, on any device and in any dtype."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from backbones.ops.tracing import in_a_graph_for_others


def forward(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int) -> Tensor:
    """See `backbones.ops.neighborhood_attention`. Differentiable; computed in at least float32.

    One row of every neighborhood is processed at a time. Its keys and values, `kernel_size` times the
    size of the map, are in memory for that row only; the backward pass gathers them again.
    """
    dtype = torch.promote_types(q.dtype, torch.float32)
    out_dtype, (q, k, v, rpb) = q.dtype, (x.to(dtype) for x in (q, k, v, rpb))
    rows, columns = (neighbors(n, kernel_size, dilation, q.device) for n in q.shape[1:3])
    offsets = [relative_offsets(index, dilation) + kernel_size - 1 for index in (rows, columns)]
    q = q * q.shape[-1] ** -0.5
    with _without_autocast(q.device.type):
        logits = [
            _recomputed(_logits, q, k, rpb, rows[:, i], columns, offsets[0][:, i], offsets[1])
            for i in range(kernel_size)
        ]
        weights = torch.stack(logits, -2).flatten(-2).softmax(-1).unflatten(-1, (kernel_size, -1))
        out = torch.zeros_like(q)
        for i, row_weights in enumerate(weights.unbind(-2)):
            out = out + _recomputed(_weighted_sums, row_weights, v, rows[:, i], columns)
    return out.to(out_dtype)


def neighbors(length: int, kernel_size: int, dilation: int, device: torch.device) -> Tensor:
    """Return the neighbors of every position along one axis, (length, kernel_size) int64, ascending.

    All have the same remainder modulo `dilation`. Windows stop at the borders, so a position near a
    border is not in the middle of its window.
    """
    position = torch.arange(length, device=device)
    remainder, place = position % dilation, position // dilation
    count = (length - remainder + dilation - 1) // dilation
    start = torch.minimum((place - kernel_size // 2).clamp(min=0), count - kernel_size)
    slots = torch.arange(kernel_size, device=device)
    return remainder[:, None] + dilation * (start[:, None] + slots)


def relative_offsets(neighbors: Tensor, dilation: int) -> Tensor:
    """Return (neighbor - position) / dilation, in the shape of `neighbors`."""
    position = torch.arange(len(neighbors), device=neighbors.device)
    return torch.div(neighbors - position[:, None], dilation, rounding_mode='trunc')


def _without_autocast(device: str) -> AbstractContextManager:
    has_autocast = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if has_autocast else nullcontext()


def _recomputed(function, *tensors: Tensor) -> Tensor:
    """Call `function`; the backward pass calls it again, so that autograd keeps only its inputs."""
    if not torch.is_grad_enabled() or in_a_graph_for_others():
        return function(*tensors)
    return recompute_in_backward(function, *tensors, use_reentrant=False, preserve_rng_state=False)


def _logits(
    q: Tensor, k: Tensor, rpb: Tensor, row: Tensor, columns: Tensor, offset_y: Tensor, offset_x: Tensor
) -> Tensor:
    """Return the logits of one row of every neighborhood, (B, H, W, heads, kernel_size).

    Args:
        q, k: (B, H, W, heads, D).
        rpb: (heads, 2 * kernel_size - 1, 2 * kernel_size - 1).
        row, offset_y: index in the map of this row, and its entry along the table's second axis, (H,).
        columns, offset_x: the same for the columns of the neighborhoods, (W, kernel_size).
    """
    bias = rpb.index_select(1, offset_y).index_select(2, offset_x.flatten())
    bias = bias.unflatten(2, offset_x.shape).permute(1, 2, 0, 3)
    return torch.einsum('byxhd,byxkhd->byxhk', q, _gathered(k, row, columns)) + bias


def _weighted_sums(weights: Tensor, v: Tensor, row: Tensor, columns: Tensor) -> Tensor:
    """Sum the values of one row of every neighborhood; weights (B, H, W, heads, kernel_size)."""
    return torch.einsum('byxhk,byxkhd->byxhd', weights, _gathered(v, row, columns))


def _gathered(x: Tensor, row: Tensor, columns: Tensor) -> Tensor:
    """Gather one row of every neighborhood, (B, H, W, heads, D) -> (B, H, W, kernel_size, heads, D)."""
    return x.index_select(1, row).index_select(2, columns.flatten()).unflatten(2, columns.shape)
