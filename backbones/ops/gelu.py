"""GELU computed again, and its gradient, as a backward pass needs them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.ops.fast_paths import fast_path


def gelu_and_gradient(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """`F.gelu(x)` and the gradient of x, on the CPU.

    Args:
        x: float32 of any shape.
        grad: that of the output, of x's shape.
    """
    module = fast_path('cpu', 'gelu', 'training')
    if module is None:
        return F.gelu(x), torch.ops.aten.gelu_backward(grad, x)
    return module.gelu_and_gradient(x.contiguous(), grad.contiguous())
