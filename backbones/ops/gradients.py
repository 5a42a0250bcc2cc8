"""Gradients by PyTorch's own autograd, for operators whose own gradients do not serve."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_by_autograd(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of `function(*tensors)`, part of a graph where they are to be differentiated again.

    Called in the backward pass of an operator that computes the same as `function`.

    Args:
        function: differentiable by PyTorch.
        tensors: what the operator saved of its inputs.
        needed: for each of them, whether its gradient is wanted.
        grad: of the output.

    Returns:
        For each of `tensors` its gradient; None where it is not needed.
    """
    again = torch.is_grad_enabled()
    if not again:
        tensors = [x.detach().requires_grad_(need) for x, need in zip(tensors, needed, strict=True)]
    with torch.enable_grad():
        out = function(*tensors)
    wanted = [x for x, need in zip(tensors, needed, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
    return tuple(next(found) if need else None for need in needed)
