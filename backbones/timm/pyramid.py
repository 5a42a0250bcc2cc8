"""Simple feature pyramid for plain vision transformers (ViTDet, arXiv 2203.16527, section 3)."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from backbones.errors import BackboneError

NORM_EPS = 1e-6


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map, (B, C, H, W) -> (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SimpleFeaturePyramid(nn.ModuleList):
    """Maps at several strides from the last map of a plain vision transformer.

    Transposed convolutions raise the resolution and max pooling lowers it. A 1x1 and a 3x3 convolution,
    each with a LayerNorm, follow. The neck and heads of the recipe follow as for other backbones.

    Args:
        dim: channels of the map of the transformer.
        stride: its stride.
        channels: channels of the maps of the pyramid.
        strides: strides of the maps of the pyramid.
    """

    def __init__(self, dim: int, stride: int, channels: int, strides: Sequence[int]) -> None:
        super().__init__(_level(dim, stride, channels, wanted) for wanted in strides)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps, (B, dim, H, W) -> (B, channels, H * s, W * s) for the scale s of each."""
        return [level(x) for level in self]


def _level(dim: int, stride: int, channels: int, wanted: int) -> nn.Sequential:
    """Return the layers from a map of one stride to another stride.

    Raises:
        BackboneError: the ratio of the strides is not a power of 2.
    """
    steps = math.log2(stride / wanted)
    if not steps.is_integer():
        raise BackboneError(
            f'a map at stride {stride} cannot be resized to stride {wanted}: use a patch size of 8, 16 '
            'or 32'
        )
    layers: list[nn.Module] = []
    for step in range(int(steps)):
        layers += [*((LayerNorm2d(dim, NORM_EPS), nn.GELU()) if step else ())]
        layers.append(nn.ConvTranspose2d(dim, dim // 2, kernel_size=2, stride=2))
        dim //= 2
    layers += [nn.MaxPool2d(kernel_size=2) for _ in range(int(-steps))]
    layers += [nn.Conv2d(dim, channels, 1, bias=False), LayerNorm2d(channels, NORM_EPS)]
    layers += [nn.Conv2d(channels, channels, 3, padding=1, bias=False), LayerNorm2d(channels, NORM_EPS)]
    return nn.Sequential(*layers)
