"""Neighborhood attention (Hassani et al., arXiv 2204.07143, section 3.1; dilated: arXiv 2209.15001)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer, head_dim, odd_kernel_size
from backbones.ops.linear import Linear
from backbones.ops.neighborhood_attention import neighborhood_attention


class NeighborhoodAttention(TokenMixer):
    """Attention of every token to the `kernel_size` x `kernel_size` tokens around it.

    At a border the window stops moving, so every token has the same number of neighbors. A map that is
    smaller than a window is zero-padded at the right and bottom, and the padding is attended to.

    Args:
        dim: number of channels C.
        block_index: position in the stage; selects the dilation.
        num_heads: number of attention heads.
        kernel_size: side of the neighborhood, in tokens; odd.
        dilation: distance between adjacent neighbors, in tokens. A sequence is repeated over the blocks
            of the stage: with `[1, 8]`, odd blocks are dilated.
        qkv_bias: whether the projections to queries, keys and values have a bias.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`, `kernel_size` is even or less than 3, or a
            dilation is not a positive whole number.
    """

    norm_eps = 1e-5

    def __init__(
        self,
        dim: int,
        block_index: int,
        *,
        num_heads: int,
        kernel_size: int = 7,
        dilation: int | Sequence[int] = 1,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        head_dim(dim, num_heads)
        if odd_kernel_size(kernel_size) == 1:
            raise BackboneError('kernel_size=1 has no neighbors; choose an odd number, 3 or more')
        self.num_heads = num_heads
        self.kernel_size = kernel_size
        self.dilation = dilation_of_block(dilation, block_index)
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.rpb = nn.Parameter(torch.empty(num_heads, 2 * kernel_size - 1, 2 * kernel_size - 1))
        self.proj = Linear(dim, dim)

    def reset_parameters(self) -> None:
        """Initialize the bias table from a truncated normal with std 0.02."""
        nn.init.trunc_normal_(self.rpb, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        _, height, width, _ = x.shape
        qkv = self.qkv(self._padded(x)).unflatten(3, (3, self.num_heads, -1))
        out = neighborhood_attention(*qkv.unbind(3), self.rpb, self.kernel_size, self.dilation)
        return self.proj(out[:, :height, :width].flatten(3))

    def _padded(self, x: Tensor) -> Tensor:
        """Zero-pad a map that is smaller than a dilated window at the right and bottom."""
        side = self.kernel_size * self.dilation
        right, bottom = max(0, side - x.shape[2]), max(0, side - x.shape[1])
        return F.pad(x, (0, 0, 0, right, 0, bottom)) if right or bottom else x


def dilation_of_block(dilation: int | Sequence[int], block_index: int) -> int:
    """Return the dilation of a block: `dilation`, or the entry of a sequence repeated over the blocks.

    Raises:
        BackboneError: a dilation is not a positive whole number, or the sequence is empty.
    """
    choices = [dilation] if isinstance(dilation, int) else dilation
    valid = isinstance(choices, Sequence) and not isinstance(choices, str) and len(choices) > 0
    if not valid or any(type(choice) is not int or choice < 1 for choice in choices):
        raise BackboneError(
            f'dilation={dilation!r}: choose a whole number, 1 or more, or a list of them to repeat over '
            'the blocks of a stage'
        )
    return choices[block_index % len(choices)]
