"""Focal modulation (Yang et al., Focal Modulation Networks, arXiv 2203.11926, eq. 3-6)."""

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Linear


class FocalModulation(TokenMixer):
    """Product of each query with a gated sum of contexts of growing size.

    The contexts come from a chain of depthwise convolutions with growing kernels; the last one is the
    mean of the map.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        focal_window: side of the first depthwise kernel, in tokens; odd. Each further kernel is larger
            by 2.
        focal_level: number of depthwise convolutions.
        normalize_modulator: whether to divide the sum of contexts by their number.
        use_postln_in_modulation: whether to normalize the product before the output projection.

    Raises:
        BackboneError: `focal_window` is even, or `focal_level` is not positive.
    """

    norm_eps = 1e-5

    def __init__(
        self,
        dim: int,
        block_index: int,
        *,
        focal_window: int = 3,
        focal_level: int = 3,
        normalize_modulator: bool = False,
        use_postln_in_modulation: bool = False,
    ) -> None:
        super().__init__()
        if focal_level < 1:
            raise BackboneError(f'focal_level={focal_level}: choose a positive number')
        if focal_window < 1 or focal_window % 2 == 0:
            raise BackboneError(f'focal_window={focal_window}: choose an odd number')
        sides = [focal_window + 2 * level for level in range(focal_level)]
        self.normalize_modulator = normalize_modulator
        self.f = Linear(dim, 2 * dim + focal_level + 1)
        self.focal_layers = nn.ModuleList(
            nn.Sequential(Convolution(dim, dim, side, padding=side // 2, groups=dim, bias=False))
            for side in sides
        )
        self.h = Linear(dim, dim)
        self.ln = nn.LayerNorm(dim, eps=self.norm_eps) if use_postln_in_modulation else None
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Modulate, (B, H, W, C) -> (B, H, W, C)."""
        dim, contexts = x.shape[-1], len(self.focal_layers) + 1
        q, context, gates = self.f(x).split([dim, dim, contexts], dim=-1)
        *gates, last = gates.split(1, dim=-1)
        modulator = None
        for layer, gate in zip(self.focal_layers, gates, strict=True):
            context = F.gelu(layer(context))
            # In place, since no gradient needs the sum so far.
            modulator = context * gate if modulator is None else modulator.addcmul_(context, gate)
        modulator.addcmul_(F.gelu(context.mean((1, 2), keepdim=True)), last)
        if self.normalize_modulator:
            modulator.div_(contexts)
        out = q * self.h(modulator)
        return self.proj(out if self.ln is None else self.ln(out))
