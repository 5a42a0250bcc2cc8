"""Depthwise convolution in plain PyTorch, on any device and in any dtype."""

import torch.nn.functional as F
from torch import Tensor


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `backbones.ops.depthwise`. Differentiable."""
    bias = None if bias is None else bias.to(x.dtype)
    # PyTorch is slow if the map is not contiguous with channels last.
    x = x.contiguous().permute(0, 3, 1, 2)
    out = F.conv2d(x, weight.to(x.dtype), bias, padding='same', groups=weight.shape[0])
    return out.permute(0, 2, 3, 1).contiguous()
