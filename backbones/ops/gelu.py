"""GELU computed again, and its gradient, as a backward pass needs them."""

from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.ops.numba_modules import numba_module


def gelu_and_gradient(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """`F.gelu(x)` and the gradient of x, on the CPU.

    Args:
        x: float32 of any shape.
        grad: that of the output, of x's shape.
    """
    module = compiled_module()
    if module is None:
        return F.gelu(x), torch.ops.aten.gelu_backward(grad, x)
    return module.gelu_and_gradient(x.contiguous(), grad.contiguous())


def compiled_module() -> ModuleType | None:
    """The pass that numba compiles; None where it cannot be used."""
    return numba_module('gelu_cpu', 'training')
