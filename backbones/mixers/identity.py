"""No mixing at all (Wang et al., RIFormer, arXiv 2304.05659, section 3.3)."""

import torch
from torch import Tensor, nn

from backbones.mixers.base import TokenMixer


class Affine(nn.Module):
    """Scale and bias per channel, minus the input, (..., C) -> (..., C).

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Compute weight * x + bias - x in one pass over memory."""
        return torch.addcmul(self.bias.to(x.dtype), x, (self.weight - 1).to(x.dtype))


class Identity(TokenMixer):
    """Scale and bias per channel, minus the token itself; no token sees another.

    A backbone with this mixer shows what the architecture alone is worth. With the norm before it, it
    amounts to a norm with a different scale and bias.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
    """

    def __init__(self, dim: int, block_index: int) -> None:
        super().__init__()
        self.affine = Affine(dim)

    def reset_parameters(self) -> None:
        """Initialize the scale with 1 and the bias with 0, so that the output is 0 at the start."""
        nn.init.ones_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Scale, (B, H, W, C) -> (B, H, W, C)."""
        return self.affine(x)
