"""DCNv4's sampling in plain PyTorch, on any device and in any dtype."""

import torch
from torch import Tensor

from backbones.ops.sampling_reference import sampling_grid, sampling_positions, weighted_samples


def forward(value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    """See `backbones.ops.dcnv4`. Differentiable.

    Computed in at least float32: half-precision coordinates would be off by whole pixels on large maps.
    """
    if not value.numel():
        # Empty, but every input has a gradient.
        return value + 0 * offset_mask.sum().to(value.dtype)
    dtype = torch.promote_types(value.dtype, torch.float32)
    offsets, weights = offsets_and_weights(offset_mask.to(dtype), value.shape[3], kernel_size)
    # The scale also stretches the undeformed grid.
    stretch = (offset_scale - 1) * sampling_grid(kernel_size, offsets)
    positions = sampling_positions(offset_scale * offsets + stretch, kernel_size)
    return weighted_samples(value.to(dtype), positions, weights).to(value.dtype)


def offsets_and_weights(offset_mask: Tensor, heads: int, kernel_size: int) -> tuple[Tensor, Tensor]:
    """Split the numbers of each head into offsets and weights.

    Args:
        offset_mask: (B, H, W, P), as in `backbones.ops.dcnv4`.
        heads: number of heads.
        kernel_size: side of the sampling grid.

    Returns:
        Offsets, (B, H, W, heads, kernel_size ** 2, 2), and weights, (B, H, W, heads, kernel_size ** 2).
    """
    points = kernel_size**2
    used = offset_mask[..., : heads * 3 * points].unflatten(-1, (heads, 3 * points))
    return used[..., : 2 * points].unflatten(-1, (points, 2)), used[..., 2 * points :]
