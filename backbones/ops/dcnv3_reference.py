"""DCNv3's sampling in plain PyTorch, on any device and in any dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`. Differentiable.

    Computed in at least float32: half-precision coordinates would be off by whole pixels on large maps.
    """
    batch, height, width, heads, dim = value.shape
    if not value.numel():
        return torch.zeros_like(value) + 0 * (offsets.sum() + logits.sum()).to(value.dtype)
    dtype = torch.promote_types(value.dtype, torch.float32)
    position = sampling_positions(offsets.to(dtype), kernel_size)
    # grid_sample takes coordinates from -1 to 1, the outer edges of the map.
    size = torch.tensor([width, height], device=value.device, dtype=dtype)
    position = (2 * position + 1) / size - 1
    sampled = F.grid_sample(
        value.to(dtype).permute(0, 3, 4, 1, 2).flatten(0, 1),
        position.permute(0, 3, 1, 2, 4, 5).reshape(batch * heads, height * width, -1, 2),
        padding_mode='zeros',
        align_corners=False,
    )
    weights = logits.to(dtype).softmax(-1).permute(0, 3, 1, 2, 4)
    out = (sampled * weights.reshape(batch * heads, 1, height * width, -1)).sum(-1)
    out = out.view(batch, heads, dim, height, width).permute(0, 3, 4, 1, 2)
    return out.to(value.dtype).contiguous()


def sampling_positions(offsets: Tensor, kernel_size: int) -> Tensor:
    """Return the sampling positions of each head, in pixels from the center of the first pixel.

    Args:
        offsets: (B, H, W, heads, kernel_size ** 2, 2), (x, y) from the undeformed grid, whose points run
            down the columns first.

    Returns:
        Positions in the same shape as `offsets`.
    """
    _, height, width = offsets.shape[:3]
    like = dict(device=offsets.device, dtype=offsets.dtype)
    across, down = torch.arange(width, **like), torch.arange(height, **like)
    center = torch.stack(torch.meshgrid(across, down, indexing='xy'), dim=-1)
    reach = torch.arange(kernel_size, **like) - kernel_size // 2
    grid = torch.stack(torch.meshgrid(reach, reach, indexing='ij'), dim=-1).view(-1, 2)
    return center[:, :, None, None] + grid + offsets
