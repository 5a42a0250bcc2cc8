"""Halo attention (Vaswani et al., HaloNet, arXiv 2103.12731, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.mixers.base import TokenMixer, head_dim
from backbones.mixers.windows import merge, pad_to_multiple, partition


class HaloAttention(TokenMixer):
    """Attention of each block of queries to the window that surrounds it by a halo.

    Args:
        dim: channels C.
        block_index: not used, every block is alike.
        num_heads: attention heads.
        block_size: side of a block of queries, in tokens.
        halo_size: how far the window of keys reaches beyond the block on each side, in tokens.

    Raises:
        BackboneError: `dim` is not a multiple of `num_heads`.
    """

    norm_eps = 1e-5

    def __init__(
        self, dim: int, block_index: int, *, num_heads: int, block_size: int = 7, halo_size: int = 3
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = head_dim(dim, num_heads)
        self.block_size = block_size
        self.halo_size = halo_size
        self.window_size = block_size + 2 * halo_size
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.height_rel = nn.Parameter(torch.empty(2 * self.window_size - 1, self.head_dim))
        self.width_rel = nn.Parameter(torch.empty(2 * self.window_size - 1, self.head_dim))

    def reset_parameters(self) -> None:
        """Start the relative positions from a truncated normal, std 0.02."""
        nn.init.trunc_normal_(self.height_rel, std=0.02)
        nn.init.trunc_normal_(self.width_rel, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Attend, (B, H, W, C) -> (B, H, W, C)."""
        _, height, width, _ = x.shape
        x = pad_to_multiple(x, self.block_size)
        q = partition(self.q(x), self.block_size)
        batch, rows, columns, tokens, dim = q.shape
        q = q.view(batch, rows * columns, tokens, self.num_heads, self.head_dim).transpose(2, 3)
        k, v = self._windows(self.kv(x))
        bias = self._position_logits(q).masked_fill_(
            outside_map(rows, columns, self.block_size, self.halo_size, x.device)[:, None, None],
            -torch.inf,
        )
        out = F.scaled_dot_product_attention(
            q.flatten(0, 1), k, v, attn_mask=bias.flatten(0, 1).to(q.dtype)
        )
        out = out.transpose(1, 2).reshape(batch, rows, columns, tokens, dim)
        return self.proj(merge(out, self.block_size)[:, :height, :width])

    def _windows(self, kv: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of every window.

        Args:
            kv: (B, H, W, 2 C), channels laid out per head as keys, then values.

        Returns:
            Two of (B * windows, heads, window_size ** 2, C / heads).
        """
        halo, size, step = self.halo_size, self.window_size, self.block_size
        kv = F.pad(kv, (0, 0, halo, halo, halo, halo))
        windows = kv.unfold(1, size, step).unfold(2, size, step)
        batch, rows, columns = windows.shape[:3]
        windows = windows.reshape(batch * rows * columns, self.num_heads, 2, self.head_dim, size * size)
        return windows.transpose(3, 4).unbind(2)

    def _position_logits(self, q: Tensor) -> Tensor:
        """Logits of relative positions (section 3.2), from the unscaled queries.

        Args:
            q: (B, windows, heads, block_size ** 2, C / heads).

        Returns:
            (B, windows, heads, block_size ** 2, window_size ** 2).
        """
        block, window = self.block_size, self.window_size
        q = q.unflatten(3, (block, block))
        index = torch.arange(window, device=q.device) - torch.arange(block, device=q.device)[:, None]
        index = index + window - 1
        vertical = torch.einsum('bnhyxd,ykd->bnhyxk', q, self.height_rel[index])
        horizontal = torch.einsum('bnhyxd,xkd->bnhyxk', q, self.width_rel[index])
        return (vertical[..., :, None] + horizontal[..., None, :]).flatten(5).flatten(3, 4)


def outside_map(
    rows: int, columns: int, block_size: int, halo_size: int, device: torch.device
) -> Tensor:
    """Keys of each window that lie outside the padded map.

    Args:
        rows, columns: how many blocks the padded map has.

    Returns:
        (rows * columns, window_size ** 2) bool, True outside.
    """

    def outside(blocks: int) -> Tensor:
        start = torch.arange(blocks, device=device)[:, None] * block_size - halo_size
        position = start + torch.arange(block_size + 2 * halo_size, device=device)
        return (position < 0) | (position >= blocks * block_size)

    vertical, horizontal = outside(rows), outside(columns)
    either = vertical[:, None, :, None] | horizontal[None, :, None, :]
    return either.flatten(2).flatten(0, 1)
