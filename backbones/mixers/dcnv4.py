"""Deformable convolution v4 (Xiong et al., arXiv 2401.06197, section 3)."""

import math

from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer, head_dim, odd_kernel_size
from backbones.ops.convolution import Convolution
from backbones.ops.dcnv4 import dcnv4, offset_mask_channels
from backbones.ops.linear import Linear


class DeformableConvolutionV4(TokenMixer):
    """Weighted sum of values at learned offsets from a 3x3 grid, with unbounded weights: no softmax.

    Initially, offsets and weights are 0, and so is the output (except for a bias of `output_proj`). In
    the first step only the weights, not the offsets and values, have a gradient.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        num_heads: number of channel groups, each with its own offsets and weights; 16 channels per group
            in the paper.
        kernel_size: side of the sampling grid; odd.
        offset_scale: distance between points of the undeformed grid, in tokens; also scales the offsets.
        dw_kernel_size: side of the depthwise convolution before the projection to offsets and weights;
            odd; None for no convolution.
        output_bias: whether the output projection has a bias.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`, a kernel size is even, or `offset_scale`
            is not a positive number.
    """

    def __init__(
        self,
        dim: int,
        block_index: int,
        *,
        num_heads: int,
        kernel_size: int = 3,
        offset_scale: float = 1.0,
        dw_kernel_size: int | None = 3,
        output_bias: bool = False,
    ) -> None:
        super().__init__()
        head_dim(dim, num_heads)
        if not 0 < offset_scale < math.inf:
            raise BackboneError(f'offset_scale={offset_scale}: choose a positive number')
        self.num_heads = num_heads
        self.kernel_size = odd_kernel_size(kernel_size)
        self.offset_scale = float(offset_scale)
        self.offset_mask_dw = None
        if dw_kernel_size is not None:
            if dw_kernel_size < 1 or dw_kernel_size % 2 == 0:
                raise BackboneError(f'dw_kernel_size={dw_kernel_size}: choose an odd number, or None')
            padding = dw_kernel_size // 2
            self.offset_mask_dw = Convolution(dim, dim, dw_kernel_size, padding=padding, groups=dim)
        self.offset_mask = Linear(dim, offset_mask_channels(num_heads, kernel_size))
        self.value_proj = Linear(dim, dim)
        self.output_proj = Linear(dim, dim, bias=output_bias)

    def reset_parameters(self) -> None:
        """Initialize offsets and weights with 0, the other projections with Xavier's uniform."""
        nn.init.zeros_(self.offset_mask.weight)
        nn.init.zeros_(self.offset_mask.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Sample and sum, (B, H, W, C) -> (B, H, W, C)."""
        features = x if self.offset_mask_dw is None else self.offset_mask_dw(x)
        value = self.value_proj(x).unflatten(-1, (self.num_heads, -1))
        offset_mask = self.offset_mask(features)
        return self.output_proj(
            dcnv4(value, offset_mask, self.kernel_size, self.offset_scale).flatten(3)
        )
