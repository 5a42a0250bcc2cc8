"""Two linear layers with a GELU between, whose hidden map need not be in memory at once.

The hidden map is several times as large as the block's own. On the CPU it is made and used up in chunks
of tokens that stay in the cache; a large tensor would also be new memory every time, whose pages the
system clears first.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.ops.cpu.module_hooks import is_called_by_nobody_else
from backbones.ops.fast_paths import is_fast
from backbones.ops.gelu import gelu_and_gradient
from backbones.ops.gradients import gradients_by_autograd
from backbones.ops.linear import (
    Linear,
    LinearGelu,
    by_onednn,
    linear,
    linear_gelu,
    with_weight_gradient,
)
from backbones.ops.tracing import is_traced

# Most numbers of the hidden map in a chunk, 2 MiB of float32. But every product reorders its weights
# first, which is worth it only for many tokens where weights are wide.
HIDDEN_NUMBERS = 2**19
FEWEST_TOKENS = 2048
# Of a hidden map whose GELU a training keeps too, which is then faster than computing it again.
NUMBERS_TO_KEEP = 2**21


class Mlp(nn.Module):
    """Two linear layers with a GELU between, (..., C) -> (..., C).

    Args:
        dim: channels C.
        hidden_dim: channels between the layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = LinearGelu(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply, (..., C) -> (..., C)."""
        if is_called_by_nobody_else(self.fc1, LinearGelu) and is_called_by_nobody_else(self.fc2, Linear):
            return mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        return self.fc2(self.fc1(x))


def mlp(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """`F.linear(F.gelu(F.linear(x, weight1, bias1)), weight2, bias2)`.

    Differentiable any number of times. A training in float32 on the CPU keeps a large hidden map for the
    backward pass once, before GELU, and computes the GELU again.

    Args:
        x: (..., C).
        weight1, bias1: (hidden, C) and (hidden,).
        weight2, bias2: (C', hidden) and (C',).

    Returns:
        (..., C').
    """
    tensors = (x, weight1, bias1, weight2, bias2)
    if is_traced() or x.device.type != 'cpu' or x.numel() == 0 or not is_fast('cpu'):
        return _at_once(*tensors)
    if not torch.is_grad_enabled():
        return _in_chunks(*tensors)
    in_float32 = all(tensor.dtype == torch.float32 for tensor in tensors)
    is_large = x.numel() // x.shape[-1] * len(weight1) > NUMBERS_TO_KEEP
    if is_large and in_float32 and not torch.is_autocast_enabled('cpu'):
        return _TrainedMlp.apply(*tensors)
    return _at_once(*tensors)


def _at_once(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    return linear(linear_gelu(x, weight1, bias1), weight2, bias2)


def _in_chunks(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    chunks = rows.split(tokens_in_a_chunk(len(rows), len(weight1)))
    outputs = [_at_once(chunk, weight1, bias1, weight2, bias2) for chunk in chunks]
    return (torch.cat(outputs) if len(outputs) > 1 else outputs[0]).view(*x.shape[:-1], -1)


def tokens_in_a_chunk(tokens: int, hidden_dim: int) -> int:
    """How many tokens are worked on at a time, so that all chunks are about as large as each other."""
    most = max(FEWEST_TOKENS, HIDDEN_NUMBERS // hidden_dim)
    return math.ceil(tokens / math.ceil(tokens / most))


class _TrainedMlp(torch.autograd.Function):
    """The MLP in float32 on the CPU, chunk by chunk in both directions."""

    @staticmethod
    def forward(
        ctx, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        out = rows.new_empty(len(rows), len(weight2))
        size, hidden = tokens_in_a_chunk(len(rows), len(weight1)), []
        for x_chunk, out_chunk in zip(rows.split(size), out.split(size), strict=True):
            hidden.append(linear(x_chunk, weight1, bias1))
            _linear_into(out_chunk, F.gelu(hidden[-1]), weight2, bias2)
        ctx.save_for_backward(x, weight1, bias1, weight2, bias2, *hidden)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        inputs, hidden = saved[:5], saved[5:]
        if torch.is_grad_enabled():
            return gradients_by_autograd(_at_once, inputs, ctx.needs_input_grad, grad)
        x, weight1, _, weight2, _ = inputs
        return _gradients(x, weight1, weight2, hidden, grad, ctx.needs_input_grad)


def _linear_into(out: Tensor, x: Tensor, weight: Tensor, bias: Tensor) -> None:
    if by_onednn(x, weight):
        out.copy_(linear(x, weight, bias))
    else:
        torch.addmm(bias, x, weight.t(), out=out)


def _gradients(
    x: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    hidden: Sequence[Tensor],
    grad: Tensor,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of x, both weights and biases in the order of `mlp`; None for those not needed.

    Args:
        x: (..., C).
        weight1, weight2: (hidden, C) and (C', hidden).
        hidden: chunks of (N, hidden), before GELU.
        grad: (..., C').
        needed: which of the five.
    """
    needs_x, needs_weight1, needs_bias1, needs_weight2, needs_bias2 = needed
    rows, grad = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    grad_x = torch.empty_like(rows) if needs_x else None
    grad_weight1, grad_weight2 = None, None
    grad_bias1 = weight1.new_zeros(len(weight1)) if needs_bias1 else None
    start = 0
    for chunk in hidden:
        part = slice(start, start + len(chunk))
        start = part.stop
        activated, grad_hidden = gelu_and_gradient(chunk, linear(grad[part], weight2.t(), None))
        if needs_weight2:
            grad_weight2 = with_weight_gradient(grad_weight2, grad[part], activated)
        if needs_weight1:
            grad_weight1 = with_weight_gradient(grad_weight1, grad_hidden, rows[part])
        if needs_bias1:
            grad_bias1 += grad_hidden.sum(0)
        if needs_x:
            grad_x[part] = linear(grad_hidden, weight1.t(), None)
    grad_x = grad_x.view(x.shape) if needs_x else None
    return grad_x, grad_weight1, grad_bias1, grad_weight2, grad.sum(0) if needs_bias2 else None
