"""Deformable convolution v3 (Wang et al., InternImage, arXiv 2211.05778, eq. 2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.mixers.base import TokenMixer, head_dim, odd_kernel_size
from backbones.ops.convolution import Convolution
from backbones.ops.dcnv3 import dcnv3
from backbones.ops.linear import Linear


class DeformableConvolutionV3(TokenMixer):
    """Weighted sum of values at learned offsets from a 3x3 grid, with weights that sum to one per head.

    Initially, offsets and weights are close to an undeformed uniform average: their projections start
    from the backbone's truncated normal, as in the released classifiers, not from 0 as in InternImage.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        num_heads: number of channel groups, each with its own offsets and weights.
        kernel_size: side of the sampling grid, and of the depthwise convolution that computes the
            features for offsets and weights; odd.

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
        self.conv = Convolution(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=self.norm_eps)
        self.sampling_offsets = Linear(dim, 2 * points)
        self.attention_weights = Linear(dim, points)
        self.value_proj = Linear(dim, dim)
        self.output_proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Sample and sum, (B, H, W, C) -> (B, H, W, C)."""
        features = F.gelu(self.norm(self.conv(x)))
        shape = (*x.shape[:3], self.num_heads, self.kernel_size**2)
        offsets = self.sampling_offsets(features).view(*shape, 2)
        logits = self.attention_weights(features).view(shape)
        value = self.value_proj(x).unflatten(-1, (self.num_heads, -1))
        return self.output_proj(dcnv3(value, offsets, logits, self.kernel_size).flatten(3))
