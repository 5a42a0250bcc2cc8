"""Depthwise convolution (Liu et al., A ConvNet for the 2020s, arXiv 2201.03545, section 2.6)."""

from torch import Tensor

from backbones.mixers.base import TokenMixer, odd_kernel_size
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Linear


class DepthwiseConvolution(TokenMixer):
    """Depthwise convolution between two pointwise projections.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        kernel_size: side of the depthwise kernel, in tokens; odd.

    Raises:
        BackboneError: `kernel_size` is even.
    """

    def __init__(self, dim: int, block_index: int, *, kernel_size: int = 7) -> None:
        super().__init__()
        padding = odd_kernel_size(kernel_size) // 2
        self.input_proj = Linear(dim, dim)
        self.conv = Convolution(dim, dim, kernel_size, padding=padding, groups=dim)
        self.output_proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, (B, H, W, C) -> (B, H, W, C)."""
        return self.output_proj(self.conv(self.input_proj(x)))
