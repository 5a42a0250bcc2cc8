"""Depthwise convolution in plain PyTorch, on any device and in any dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `backbones.ops.depthwise`."""
    padding, dtype = reach_in_map(x, weight.shape[-1]), _computed(x)
    weight, bias = cropped(weight, padding).to(dtype), None if bias is None else bias.to(dtype)
    x, result = x.to(dtype).contiguous().permute(0, 3, 1, 2), x.dtype
    # Autocast would change the dtype again.
    with torch.autocast(x.device.type, enabled=False):
        out = F.conv2d(x, weight, bias, padding=padding, groups=weight.shape[0])
    return out.permute(0, 2, 3, 1).to(result).contiguous()


def weight_gradient(x: Tensor, grad: Tensor, side: int) -> Tensor:
    """Return the gradient of the weight, (C, 1, side, side), in float32 or float64."""
    dtype, padding = torch.promote_types(x.dtype, torch.float32), reach_in_map(x, side)
    x, grad = (tensor.to(dtype).contiguous().permute(0, 3, 1, 2) for tensor in (x, grad))
    whole = x.new_zeros(x.shape[1], 1, side, side)
    part = cropped(whole, padding)
    part.copy_(torch.nn.grad.conv2d_weight(x, part.shape, grad, padding=padding, groups=x.shape[1]))
    return whole


def cropped(weight: Tensor, reach: tuple[int, int]) -> Tensor:
    """Return a view of the center of a kernel (C, 1, K, K), `reach` taps to each side of the middle."""
    middle = weight.shape[-1] // 2
    down, across = reach
    rows, columns = slice(middle - down, middle + down + 1), slice(middle - across, middle + across + 1)
    return weight[:, :, rows, columns]


def _computed(x: Tensor) -> torch.dtype:
    """Return the dtype to convolve `x` in.

    oneDNN does not return from some bfloat16 convolutions, such as 16 channels of 3x100 with K = 31.
    """
    return torch.promote_types(x.dtype, torch.float32) if x.device.type == 'cpu' else x.dtype


def reach_in_map(x: Tensor, side: int) -> tuple[int, int]:
    """Return how far from the middle a tap meets the map (B, H, W, C) at all, down and across."""
    return min(side // 2, x.shape[1] - 1), min(side // 2, x.shape[2] - 1)
