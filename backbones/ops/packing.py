"""Maps that one linear layer makes together, and their gradients without a copy."""

import torch
from torch import Tensor

from backbones.ops.tracing import is_traced


def unpack(packed: Tensor) -> tuple[Tensor, ...]:
    """`packed.unbind(-3)`: (..., n, heads, D) -> n of (..., heads, D), views of it.

    The gradient of `packed` is that of its parts as they lie in memory, if an operator has written them
    as `empty_parts` of one tensor; else a copy of all of them.
    """
    if is_traced() or not (torch.is_grad_enabled() and packed.requires_grad):
        return packed.unbind(-3)
    return _Unpacked.apply(packed)


def empty_parts(part: Tensor, count: int) -> tuple[Tensor, ...]:
    """New maps (..., heads, D), shaped as `part`, that lie in memory as those that `unpack` gives."""
    *places, heads, dim = part.shape
    return part.new_empty(*places, count, heads, dim).unbind(-3)


class _Unpacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, packed: Tensor) -> tuple[Tensor, ...]:
        return packed.unbind(-3)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        whole = None if torch.is_grad_enabled() else _whole(grads)
        return torch.stack(grads, -3) if whole is None else whole


def _whole(parts: tuple[Tensor, ...]) -> Tensor | None:
    """The tensor (..., n, heads, D) whose n parts these are all of; None if they are not."""
    *places, heads, dim = parts[0].shape
    size = heads * dim
    shape = (*places, len(parts), heads, dim)
    strides = torch.empty(shape, device='meta').stride()
    start, storage = parts[0].storage_offset(), parts[0].untyped_storage().data_ptr()
    for number, part in enumerate(parts):
        if not (
            part.untyped_storage().data_ptr() == storage
            and part.storage_offset() == start + number * size
            and part.stride() == (*strides[:-3], *strides[-2:])
        ):
            return None
    return parts[0].as_strided(shape, strides, start)
