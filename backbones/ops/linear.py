"""Linear layers and MLPs that use the faster of PyTorch's two matrix libraries on the CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.ops.cpu import onednn
from backbones.ops.fast_paths import is_fast
from backbones.ops.tracing import in_a_graph_for_others


class Linear(nn.Linear):
    """`nn.Linear`, (..., C) -> (..., C'), computed by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply, (..., C) -> (..., C')."""
        return linear(x, self.weight, self.bias)


class LinearGelu(Linear):
    """A linear layer followed by GELU, (..., C) -> (..., C')."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply, (..., C) -> (..., C')."""
        return linear_gelu(x, self.weight, self.bias)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, (..., C) -> (..., C).

    The hidden map is computed for all tokens at once. Chunks of tokens that fit in the cache would take
    the same CPU time, but threads synchronize after every product, and would wait there whenever another
    process occupies a core.

    Args:
        dim: number of channels C.
        hidden_dim: number of channels between the layers.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = LinearGelu(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply, (..., C) -> (..., C)."""
        return self.fc2(self.fc1(x))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `F.linear`: x (..., C), weight (C', C), bias (C',) -> (..., C')."""
    if not by_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _OneDnnLinear.apply(x, weight, bias)
    return onednn.linear(x, weight, bias)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `F.gelu(F.linear(x, weight, bias))`, in one pass over memory if no gradient is needed."""
    if not torch.is_grad_enabled() and by_onednn(x, weight):
        return onednn.linear(x, weight, bias, gelu=True)
    if not torch.is_grad_enabled() and in_bfloat16_on_cpu(x):
        x, weight, bias = (tensor.to(torch.bfloat16) for tensor in (x, weight, bias))
        return onednn.linear(x, weight, bias, gelu=True)
    return F.gelu(linear(x, weight, bias))


def by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN is faster for this product than the library that PyTorch chooses."""
    return (
        onednn.NARROWEST_BY_ONEDNN is not None
        and min(weight.shape) >= onednn.NARROWEST_BY_ONEDNN
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled('cpu')
        and not in_a_graph_for_others()
        and is_fast('cpu')
        and onednn.works()
    )


def in_bfloat16_on_cpu(x: Tensor) -> bool:
    """Return whether autocast uses bfloat16 on the CPU, and oneDNN supports it on this processor."""
    return (
        onednn.HAS_OPERATOR
        and x.device.type == 'cpu'
        and x.dtype != torch.float64
        and x.numel() > 0
        and torch.is_autocast_enabled('cpu')
        and torch.get_autocast_dtype('cpu') == torch.bfloat16
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and is_fast('cpu')
        and onednn.works_in_bfloat16()
    )


def cast_once(x: Tensor | None) -> Tensor | None:
    """Cast `x` as autocast would, once instead of for every product that takes it."""
    if x is None:
        return None
    device = x.device.type
    if device != 'meta' and x.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


class _OneDnnLinear(torch.autograd.Function):
    """A linear layer whose three products are computed by oneDNN."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return onednn.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = linear(grad, weight.t(), None) if needs_x else None
        rows = grad.reshape(-1, grad.shape[-1])
        grad_weight = weight_gradient(rows, x.reshape(-1, x.shape[-1])) if needs_weight else None
        return grad_x, grad_weight, rows.sum(0) if needs_bias else None


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """Compute a weight gradient, (N, C') and (N, C) -> (C', C)."""
    if not onednn.WEIGHT_GRADIENTS_BY_ONEDNN:
        return torch.mm(grad.t(), x)
    # oneDNN is faster if the longer side of the result is contiguous in memory.
    if grad.shape[1] > x.shape[1]:
        return linear(x.t(), grad.t(), None).t()
    return linear(grad.t(), x.t(), None)


def with_weight_gradient(total: Tensor | None, grad: Tensor, x: Tensor) -> Tensor:
    """Add the weight gradient of more tokens to `total` in place, and return the sum, (C', C).

    Args:
        total: sum so far, (C', C); None at the start, which saves a pass over the weights.
        grad: (N, C').
        x: (N, C).
    """
    if total is None:
        return weight_gradient(grad, x)
    if onednn.WEIGHT_GRADIENTS_BY_ONEDNN:
        return total.add_(weight_gradient(grad, x))
    return torch.addmm(total, grad.t(), x, out=total)
