"""Linear layers by the faster of the two libraries that PyTorch has for products on the CPU.

PyTorch multiplies float32 matrices by MKL, which is made for Intel's processors and keeps its AVX-512
code to them. On others oneDNN, which PyTorch uses in half precision, is faster for the same sums: on
AMD's by a tenth for wide layers with AVX2 (Zen 3), by a tenth for all and more for narrow ones with
AVX-512 in two steps (Zen 4), and twice as fast with AVX-512 in one (Zen 5).
"""

import platform
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from backbones.ops.tracing import in_a_graph_for_others

# Not in every build of PyTorch.
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
NO_ACTIVATION, GELU = ('none', [], ''), ('gelu', [], 'none')


def narrowest_by_onednn(processor: str, capability: str) -> int | None:
    """Channels on both sides from which oneDNN multiplies float32 matrices faster than MKL.

    Args:
        processor: text that names its maker, as Linux' /proc/cpuinfo does.
        capability: the instructions that PyTorch uses, as its `get_cpu_capability` says.

    Returns:
        None where it is at no width.
    """
    if 'GenuineIntel' in processor:
        return None
    return {'AVX2': 256, 'AVX512': 1}.get(capability)


def has_wide_units(processor: str, capability: str) -> bool:
    """Whether an AVX-512 instruction takes one step, on a processor for which MKL avoids them.

    AMD's have such units since family 26 (Zen 5). Gradients of weights, too, then take oneDNN half the
    time; on others it takes longer for them. Arguments as of `narrowest_by_onednn`.
    """
    family = re.search(r'cpu family\s*: (\d+)', processor)
    is_new = 'AuthenticAMD' in processor and family is not None and int(family[1]) >= 26
    return is_new and capability == 'AVX512'


def _processor() -> str:
    """Text that names the processor's maker and family."""
    information = Path('/proc/cpuinfo')
    return information.read_text() if information.exists() else platform.processor()


_CHOICE = _processor(), torch.backends.cpu.get_cpu_capability()
_HAS_BOTH = HAS_ONEDNN and torch.backends.mkl.is_available()
# For products with a weight; None where MKL, or what PyTorch has in its place, always takes them.
NARROWEST_BY_ONEDNN = narrowest_by_onednn(*_CHOICE) if _HAS_BOTH else None
WEIGHT_GRADIENTS_BY_ONEDNN = _HAS_BOTH and has_wide_units(*_CHOICE)


class Linear(nn.Linear):
    """`nn.Linear`, (..., C) -> (..., C'), by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply, (..., C) -> (..., C')."""
        return linear(x, self.weight, self.bias)


class LinearGelu(Linear):
    """A linear layer and GELU, (..., C) -> (..., C')."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply, (..., C) -> (..., C')."""
        return linear_gelu(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`: x (..., C), weight (C', C), bias (C',) -> (..., C')."""
    if not by_onednn(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _OneDnnLinear.apply(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *NO_ACTIVATION)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`F.gelu(F.linear(x, weight, bias))`; one pass over memory where no gradient is wanted."""
    if not torch.is_grad_enabled() and by_onednn(x, weight):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *GELU)
    if not torch.is_grad_enabled() and in_bfloat16_on_cpu(x):
        x, weight, bias = (tensor.to(torch.bfloat16) for tensor in (x, weight, bias))
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *GELU)
    return F.gelu(linear(x, weight, bias))


def by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether this product is faster by oneDNN than the way that PyTorch chooses."""
    return (
        NARROWEST_BY_ONEDNN is not None
        and min(weight.shape) >= NARROWEST_BY_ONEDNN
        and x.device.type == 'cpu'
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_autocast_enabled('cpu')
        and not in_a_graph_for_others()
    )


def in_bfloat16_on_cpu(x: Tensor) -> bool:
    """Whether autocast has products on the CPU made in bfloat16, for which oneDNN has code here."""
    return (
        HAS_ONEDNN
        and x.device.type == 'cpu'
        and x.dtype != torch.float64
        and x.numel() > 0
        and torch.is_autocast_enabled('cpu')
        and torch.get_autocast_dtype('cpu') == torch.bfloat16
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def cast_once(x: Tensor) -> Tensor:
    """What autocast would cast `x` to anew for every product that takes it."""
    device = x.device.type
    if device != 'meta' and x.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


class _OneDnnLinear(torch.autograd.Function):
    """A linear layer whose three products are oneDNN's."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, *NO_ACTIVATION)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_x = linear(grad, weight.t(), None) if needs_x else None
        rows = grad.reshape(-1, grad.shape[-1])
        grad_weight = weight_gradient(rows, x.reshape(-1, x.shape[-1])) if needs_weight else None
        return grad_x, grad_weight, rows.sum(0) if needs_bias else None


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """(N, C') and (N, C) -> (C', C)."""
    if not WEIGHT_GRADIENTS_BY_ONEDNN:
        return torch.mm(grad.t(), x)
    # oneDNN is faster with the longer side of the result along its rows in memory.
    if grad.shape[1] > x.shape[1]:
        return linear(x.t(), grad.t(), None).t()
    return linear(grad.t(), x.t(), None)


def with_weight_gradient(total: Tensor | None, grad: Tensor, x: Tensor) -> Tensor:
    """Sum of `total` (C', C), changed in place, and of the gradient from some more tokens.

    Args:
        total: None where there is none yet, which saves a pass over the weights.
        grad: (N, C').
        x: (N, C).
    """
    if total is None:
        return weight_gradient(grad, x)
    if WEIGHT_GRADIENTS_BY_ONEDNN:
        return total.add_(weight_gradient(grad, x))
    return torch.addmm(total, grad.t(), x, out=total)


def _linear_flops(x_shape, weight_shape, *_, out_shape=None, **__) -> int:
    """Two operations a multiply-add, as torch's counter counts."""
    return 2 * x_shape.numel() * weight_shape[0]


if HAS_ONEDNN:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_linear_flops)
