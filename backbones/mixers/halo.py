"""Halo attention (Vaswani et al., HaloNet, arXiv 2103.12731, section 3)."""

import torch
from torch import Tensor, nn

from backbones.mixers.base import TokenMixer, head_dim
from backbones.ops.attention import halo_attention
from backbones.ops.linear import Linear


class HaloAttention(TokenMixer):
    """Attention of each block of queries to the block and a halo of tokens around it.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        num_heads: number of attention heads.
        block_size: side of a block of queries, in tokens.
        halo_size: distance that the window of keys extends beyond the block on each side, in tokens.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`.
    """

    norm_eps = 1e-5

    def __init__(
        self, dim: int, block_index: int, *, num_heads: int, block_size: int = 7, halo_size: int = 3
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.block_size = block_size
        self.halo_size = halo_size
        positions = (2 * (block_size + 2 * halo_size) - 1, head_dim(dim, num_heads))
        self.q = Linear(dim, dim, bias=False)
        self.kv = Linear(dim, 2 * dim, bias=False)
        self.proj = Linear(dim, dim)
        self.height_rel = nn.Parameter(torch.empty(positions))
        self.width_rel = nn.Parameter(torch.empty(positions))

    def reset_parameters(self) -> None:
        """Initialize the relative positions from a normal; std d ** -0.5 for d channels per head."""
        for table in (self.height_rel, self.width_rel):
            nn.init.normal_(table, std=table.shape[1] ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        heads = (self.num_heads, -1)
        q = self.q(x).unflatten(3, heads)
        k, v = self.kv(x).unflatten(3, heads).chunk(2, dim=-1)
        out = halo_attention(q, k, v, self.height_rel, self.width_rel, self.block_size, self.halo_size)
        return self.proj(out.flatten(3))
