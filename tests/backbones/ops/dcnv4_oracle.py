"""DCNv4's sampling by torchvision's deformable convolution, an independent implementation."""

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d


def random_inputs(
    size: tuple[int, ...], kernel_size: int = 3, dtype: torch.dtype = torch.float32, reach: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return random value, offset_mask and output gradient, for a value of size (B, H, W, heads, D).

    Offsets are odd multiples of 1/8: every dtype represents them exactly, and none is an integer, where
    gradients jump, if scaled by 1, 2 or 1/2. The padding of `offset_mask` is NaN: it must not be read.
    """
    heads, points = size[3], kernel_size**2
    padding = -3 * points * heads % 8
    offsets = (torch.randn(*size[:4], 2 * points) * reach * 4).round() / 4 + 1 / 8
    weights = torch.randn(*size[:4], points)
    used = torch.cat([offsets, weights], dim=-1).flatten(3)
    unused = torch.full((*size[:3], padding), torch.nan)
    offset_mask = torch.cat([used, unused], dim=-1).to(dtype)
    return torch.randn(size, dtype=dtype), offset_mask, torch.randn(size, dtype=dtype)


def sampled(value: Tensor, offset_mask: Tensor, kernel_size: int, scale: float) -> Tensor:
    """Compute `dcnv4`, (B, H, W, heads, D), in the dtype of the inputs."""
    heads, points = value.shape[3], kernel_size**2
    used = offset_mask[..., : 3 * points * heads].unflatten(-1, (heads, 3 * points))
    x, y = used[..., : 2 * points].unflatten(-1, (points, 2)).unbind(-1)
    # From points down the columns first to row-major points.
    x, y, weights = (
        numbers.unflatten(-1, (kernel_size, kernel_size)).transpose(-1, -2)
        for numbers in (x, y, used[..., 2 * points :])
    )
    # torchvision's undeformed grid has a spacing of 1.
    steps = torch.arange(kernel_size, dtype=value.dtype) - kernel_size // 2
    x, y = scale * x + (scale - 1) * steps, scale * y + (scale - 1) * steps[:, None]
    channels = value.shape[3] * value.shape[4]
    out = deform_conv2d(
        value.flatten(3).permute(0, 3, 1, 2),
        torch.stack([y, x], -1).flatten(3).permute(0, 3, 1, 2),
        value.new_ones(channels, 1, kernel_size, kernel_size),
        padding=kernel_size // 2,
        mask=weights.flatten(3).permute(0, 3, 1, 2),
    )
    return out.permute(0, 2, 3, 1).unflatten(-1, (heads, -1))


def gradients(
    grad_out: Tensor, value: Tensor, offset_mask: Tensor, kernel_size: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of value and offset_mask, in double precision."""
    inputs = [tensor.double().requires_grad_() for tensor in (value, offset_mask)]
    return torch.autograd.grad(sampled(*inputs, kernel_size, scale), inputs, grad_out.double())
