"""Spatial-reduction attention (Wang et al., Pyramid Vision Transformer, arXiv 2102.12122, eq. 1-3)."""

from torch import Tensor, nn

from backbones.mixers.base import TokenMixer, head_dim
from backbones.ops.attention import global_attention
from backbones.ops.convolution import Convolution
from backbones.ops.linear import Linear


class SpatialReductionAttention(TokenMixer):
    """Global attention to keys and values from a spatially reduced map.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        num_heads: number of attention heads.
        sr_ratio: kernel size and stride of the reducing convolution; 1 omits it. The remainder of the
            map at the right and bottom gives no keys.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`.
    """

    norm_eps = 1e-5

    def __init__(self, dim: int, block_index: int, *, num_heads: int, sr_ratio: int) -> None:
        super().__init__()
        head_dim(dim, num_heads)
        self.num_heads = num_heads
        self.q = Linear(dim, dim)
        self.kv = Linear(dim, 2 * dim)
        self.proj = Linear(dim, dim)
        self.sr_ratio = sr_ratio
        if sr_ratio > 1:
            self.sr = Convolution(dim, dim, sr_ratio, sr_ratio)
            self.norm = nn.LayerNorm(dim, eps=self.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, dim = x.shape
        q = self.q(x).view(batch, height * width, self.num_heads, -1)
        kv = self.kv(self._reduce(x)).view(batch, -1, 2, self.num_heads, dim // self.num_heads)
        out = global_attention(q, *kv.unbind(2))
        return self.proj(out.reshape(batch, height, width, dim))

    def _reduce(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H // sr_ratio, W // sr_ratio, C)."""
        if self.sr_ratio == 1:
            return x
        return self.norm(self.sr(x))
