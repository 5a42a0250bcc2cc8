"""Deformable convolution v3 (Wang et al., InternImage, arXiv 2211.05778, eq. 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.mixers.base import TokenMixer, head_dim, odd_kernel_size


class DeformableConvolutionV3(TokenMixer):
    """Each head sums values at learnt offsets around a 3x3 grid, with weights that sum to one.

    Args:
        dim: channels C.
        block_index: not used, every block is alike.
        num_heads: groups of channels with offsets and weights of their own.
        kernel_size: side of the grid of sampling points, and of the depthwise convolution that the
            offsets and weights are computed from; odd.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`, or `kernel_size` is even.
    """

    norm_eps = 1e-5

    def __init__(self, dim: int, block_index: int, *, num_heads: int, kernel_size: int = 3) -> None:
        super().__init__()
        head_dim(dim, num_heads)
        self.num_heads = num_heads
        self.kernel_size = odd_kernel_size(kernel_size)
        points = num_heads * kernel_size**2
        self.conv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=self.norm_eps)
        self.sampling_offsets = nn.Linear(dim, 2 * points)
        self.attention_weights = nn.Linear(dim, points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)

    def reset_parameters(self) -> None:
        """Start as a uniform average over the undeformed grid."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Sample and sum, (B, H, W, C) -> (B, H, W, C)."""
        features = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        features = F.gelu(self.norm(features))
        shape = (*x.shape[:3], self.num_heads, self.kernel_size**2)
        offsets = self.sampling_offsets(features).view(*shape, 2)
        weights = self.attention_weights(features).view(shape).softmax(-1)
        value = self.value_proj(x).unflatten(-1, (self.num_heads, -1))
        out = sample_weighted(value, offsets, weights, self.kernel_size)
        return self.output_proj(out.flatten(3).to(value.dtype))


def sample_weighted(value: Tensor, offsets: Tensor, weights: Tensor, kernel_size: int) -> Tensor:
    """Weighted sum of bilinear samples around every token (InternImage, eq. 2).

    Samples outside the map are zero. Computed in float32 at least, since half-precision coordinates
    would be off by whole pixels on large maps.

    Args:
        value: (B, H, W, heads, D).
        offsets: (B, H, W, heads, kernel_size ** 2, 2), (x, y) in pixels, from the undeformed grid,
            whose points run down the columns first.
        weights: (B, H, W, heads, kernel_size ** 2).

    Returns:
        (B, H, W, heads, D).
    """
    batch, height, width, heads, dim = value.shape
    dtype = torch.promote_types(value.dtype, torch.float32)
    centre = torch.stack(
        torch.meshgrid(
            torch.arange(width, device=value.device, dtype=dtype),
            torch.arange(height, device=value.device, dtype=dtype),
            indexing='xy',
        ),
        dim=-1,
    )
    reach = torch.arange(kernel_size, device=value.device, dtype=dtype) - kernel_size // 2
    grid = torch.stack(torch.meshgrid(reach, reach, indexing='ij'), dim=-1).view(-1, 2)
    position = centre[:, :, None, None] + grid + offsets.to(dtype)
    # grid_sample has pixel centres at half-integers of a map that spans -1 to 1.
    size = torch.tensor([width, height], device=value.device, dtype=dtype)
    position = (2 * position + 1) / size - 1
    sampled = F.grid_sample(
        value.to(dtype).permute(0, 3, 4, 1, 2).flatten(0, 1),
        position.permute(0, 3, 1, 2, 4, 5).reshape(batch * heads, height * width, -1, 2),
        padding_mode='zeros',
        align_corners=False,
    )
    weights = weights.to(dtype).permute(0, 3, 1, 2, 4).reshape(batch * heads, 1, height * width, -1)
    out = (sampled * weights).sum(-1)
    return out.view(batch, heads, dim, height, width).permute(0, 3, 4, 1, 2)
