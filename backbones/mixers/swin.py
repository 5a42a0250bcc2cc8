"""Shifted window attention (Liu et al., Swin Transformer, arXiv 2103.14030, section 3.2)."""

import torch
from torch import Tensor, nn

from backbones.mixers.base import TokenMixer, head_dim
from backbones.ops.attention import window_attention
from backbones.ops.linear import Linear
from backbones.ops.windows import pad_to_multiple


class ShiftedWindowAttention(TokenMixer):
    """Attention within windows; odd blocks shift the windows by half their size.

    Args:
        dim: number of channels C.
        block_index: position in the stage; odd blocks shift if the map is larger than one window.
        num_heads: number of attention heads.
        window_size: side of a window, in tokens.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`.
    """

    def __init__(self, dim: int, block_index: int, *, num_heads: int, window_size: int = 7) -> None:
        super().__init__()
        head_dim(dim, num_heads)
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = window_size // 2 if block_index % 2 else 0
        self.relative_position_bias_table = nn.Parameter(
            torch.empty((2 * window_size - 1) ** 2, num_heads)
        )
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.register_buffer(
            'relative_position_index', relative_position_index(window_size), persistent=False
        )

    def reset_parameters(self) -> None:
        """Initialize the bias table from a truncated normal with std 0.02."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        _, height, width, _ = x.shape
        shift = self.shift if min(height, width) > self.window_size else 0
        qkv = self.qkv(pad_to_multiple(x, self.window_size))
        q, k, v = qkv.unflatten(3, (3, self.num_heads, -1)).unbind(3)
        out = window_attention(q, k, v, self._bias(), self.window_size, shift)
        return self.proj(out[:, :height, :width].flatten(3))

    def _bias(self) -> Tensor:
        """Return the relative position bias, (heads, window_size ** 2, window_size ** 2)."""
        tokens = self.window_size**2
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        return bias.view(tokens, tokens, self.num_heads).permute(2, 0, 1)


def relative_position_index(window_size: int) -> Tensor:
    """Return the bias table row of each pair of tokens, (window_size ** 2, window_size ** 2) int64.

    Entry (i, j) is for the offset from token j to token i, row-major.
    """
    y, x = torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing='ij')
    y, x = y.flatten(), x.flatten()
    delta_y = y[:, None] - y[None, :] + window_size - 1
    delta_x = x[:, None] - x[None, :] + window_size - 1
    return delta_y * (2 * window_size - 1) + delta_x
