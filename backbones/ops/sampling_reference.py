"""Bilinear sampling around every token in plain PyTorch, on any device and in any dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_samples(value: Tensor, positions: Tensor, weights: Tensor) -> Tensor:
    """Sum the bilinear samples of each token with weights; differentiable.

    Args:
        value: (B, H, W, heads, D), zero outside the map.
        positions: (B, H, W, heads, points, 2), (x, y) in pixels from the center of the first pixel.
        weights: (B, H, W, heads, points).

    Returns:
        (B, H, W, heads, D), contiguous.
    """
    batch, height, width, heads, dim = value.shape
    # grid_sample takes coordinates from -1 to 1, the outer edges of the map.
    size = torch.tensor([width, height], device=value.device, dtype=value.dtype)
    positions = (2 * positions + 1) / size - 1
    sampled = F.grid_sample(
        value.permute(0, 3, 4, 1, 2).flatten(0, 1),
        positions.permute(0, 3, 1, 2, 4, 5).reshape(batch * heads, height * width, -1, 2),
        padding_mode='zeros',
        align_corners=False,
    )
    weights = weights.permute(0, 3, 1, 2, 4)
    out = (sampled * weights.reshape(batch * heads, 1, height * width, -1)).sum(-1)
    return out.view(batch, heads, dim, height, width).permute(0, 3, 4, 1, 2).contiguous()


def sampling_positions(offsets: Tensor, kernel_size: int) -> Tensor:
    """Return the sampling positions of each head, in pixels from the center of the first pixel.

    Args:
        offsets: (B, H, W, heads, kernel_size ** 2, 2), (x, y) from the undeformed grid.

    Returns:
        Positions in the same shape as `offsets`.
    """
    _, height, width = offsets.shape[:3]
    like = dict(device=offsets.device, dtype=offsets.dtype)
    across, down = torch.arange(width, **like), torch.arange(height, **like)
    center = torch.stack(torch.meshgrid(across, down, indexing='xy'), dim=-1)
    return center[:, :, None, None] + sampling_grid(kernel_size, offsets) + offsets


def sampling_grid(kernel_size: int, like: Tensor) -> Tensor:
    """Return the undeformed grid, (kernel_size ** 2, 2), (x, y); its points run down the columns first.

    Args:
        kernel_size: side of the grid.
        like: tensor with the device and dtype of the result.
    """
    reach = torch.arange(kernel_size, device=like.device, dtype=like.dtype) - kernel_size // 2
    return torch.stack(torch.meshgrid(reach, reach, indexing='ij'), dim=-1).view(-1, 2)
