"""Gradients by PyTorch's autograd, for cases that an operator's own gradients do not support."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def gradients_by_autograd(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `function(*tensors)`; they can be differentiated again if needed.

    Called in the backward pass of an operator that computes the same as `function`.

    Args:
        function: function that PyTorch can differentiate.
        tensors: inputs that the operator saved.
        needed: whether each tensor needs a gradient.
        grad: gradient of the output.

    Returns:
        The gradient of each tensor; None if it is not needed.
    """
    again = torch.is_grad_enabled()
    if not again:
        tensors = [x.detach().requires_grad_(need) for x, need in zip(tensors, needed, strict=True)]
    with torch.enable_grad():
        out = function(*tensors)
    wanted = [x for x, need in zip(tensors, needed, strict=True) if need]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=again))
    return tuple(next(found) if need else None for need in needed)
