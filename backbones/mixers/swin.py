"""Shifted window attention (Liu et al., Swin Transformer, arXiv 2103.14030, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.mixers.base import TokenMixer, head_dim
from backbones.mixers.windows import merge, pad_to_multiple, partition

# Low enough to vanish in the softmax, and the value that released weights were trained with.
MASKED = -100.0


class ShiftedWindowAttention(TokenMixer):
    """Attention within windows; odd blocks see windows shifted by half their size.

    Args:
        dim: channels C.
        block_index: odd blocks shift, where the map is larger than one window.
        num_heads: attention heads.
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
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.register_buffer(
            'relative_position_index', relative_position_index(window_size), persistent=False
        )

    def reset_parameters(self) -> None:
        """Start the bias table from a truncated normal, std 0.02."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        _, height, width, _ = x.shape
        shift = self.shift if min(height, width) > self.window_size else 0
        x = pad_to_multiple(x, self.window_size)
        bias = self._bias()
        if shift:
            mask = shift_mask(x.shape[1], x.shape[2], self.window_size, shift, x.device)
            bias = bias + mask[:, None]
            x = torch.roll(x, (-shift, -shift), (1, 2))
        x = merge(self._attend(partition(x, self.window_size), bias), self.window_size)
        if shift:
            x = torch.roll(x, (shift, shift), (1, 2))
        return self.proj(x[:, :height, :width])

    def _bias(self) -> Tensor:
        """Relative position bias, (1, heads, window_size ** 2, window_size ** 2)."""
        tokens = self.window_size**2
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        return bias.view(1, tokens, tokens, self.num_heads).permute(0, 3, 1, 2)

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention in each window.

        Args:
            windows: (B, rows, columns, N, C) with N tokens a window.
            bias: (1 or rows * columns, heads, N, N), added to the logits.

        Returns:
            (B, rows, columns, N, C).
        """
        batch, rows, columns, tokens, dim = windows.shape
        count = rows * columns
        qkv = self.qkv(windows).view(batch, count, tokens, 3, self.num_heads, -1)
        # Windows join the heads' axis, so that one bias serves the whole batch by broadcasting.
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)
        bias = bias.expand(count, -1, -1, -1).reshape(1, -1, tokens, tokens).to(q.dtype)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        out = out.view(batch, count, self.num_heads, tokens, -1).transpose(2, 3)
        return out.reshape(batch, rows, columns, tokens, dim)


def relative_position_index(window_size: int) -> Tensor:
    """Row of the bias table for each pair of tokens, (window_size ** 2, window_size ** 2) int64.

    Entry (i, j) belongs to the offset from token j to token i, rows before columns.
    """
    y, x = torch.meshgrid(torch.arange(window_size), torch.arange(window_size), indexing='ij')
    y, x = y.flatten(), x.flatten()
    delta_y = y[:, None] - y[None, :] + window_size - 1
    delta_x = x[:, None] - x[None, :] + window_size - 1
    return delta_y * (2 * window_size - 1) + delta_x


def shift_mask(height: int, width: int, window_size: int, shift: int, device: torch.device) -> Tensor:
    """Logits' offset between tokens that only the cyclic shift made neighbours.

    Args:
        height, width: of the padded map, multiples of `window_size`.

    Returns:
        (windows, window_size ** 2, window_size ** 2), 0 or `MASKED`.
    """

    def regions(length: int) -> Tensor:
        position = torch.arange(length, device=device)
        return (position >= length - window_size).int() + (position >= length - shift).int()

    region = 3 * regions(height)[:, None] + regions(width)[None, :]
    region = partition(region[None, :, :, None], window_size).reshape(-1, window_size**2)
    apart = region[:, :, None] != region[:, None, :]
    return apart * MASKED
