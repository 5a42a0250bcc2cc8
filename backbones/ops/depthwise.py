"""Depthwise convolution with kernels as large as the map."""

from torch import Tensor, nn

from backbones.ops import depthwise_reference
from backbones.ops.linear import cast_once


class DepthwiseLayer(nn.Conv2d):
    """Depthwise `nn.Conv2d` with same-size output for maps with channels last, (B, H, W, C).

    Args:
        dim: number of channels C.
        kernel_size: side of the kernel; odd.
        bias: whether to add a bias.
    """

    def __init__(self, dim: int, kernel_size: int, bias: bool) -> None:
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, (B, H, W, C) -> (B, H, W, C)."""
        return depthwise_convolution(cast_once(x), self.weight, self.bias)


def depthwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Correlate each channel of a zero-padded map with its own kernel.

    Args:
        x: (B, H, W, C).
        weight: (C, 1, K, K), K odd.
        bias: (C,).

    Returns:
        (B, H, W, C), in the dtype of `x`.
    """
    return depthwise_reference.forward(x, weight, bias)
