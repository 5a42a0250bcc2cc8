"""Halo and neighborhood attention by FlexAttention, to be compared with the suite's operators.

The map is cut into square tiles: the blocks of halo attention, or 8x8 tokens. Every tile takes 64 places
of the sequence, so a window lies in the 3x3 tiles around its query, and a block mask of 64 or 128 places
skips the others. FlexAttention sums the gradient of a table that is read for each pair by atomic
additions. Without these, the bias of a relative position is the product of additional channels: rows of
keys in one window differ modulo the side of the window, so keys get the one-hot code of that remainder,
and queries the bias of the key with each remainder.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from backbones.ops.windows import merge, pad_to_multiple, partition

# Places of a tile in the sequence.
SLOTS = 64
# Side of a tile of neighborhood attention, in tokens.
SQUARE = 8
# The length of a sequence is a multiple of this, so that no kernel checks bounds.
LENGTH = 128
# Row of a place without a token, outside every window.
NOWHERE = 2**20


@dataclass(frozen=True)
class Layout:
    """Places of the tokens of a map in the sequence.

    Attributes:
        side: side of a tile, in tokens.
        grid: number of rows and columns of tiles.
        window: side of the window of a query, in tokens.
        rows, columns: of each place, (N,) int32; `NOWHERE` without a token.
        top, left: first row and column of the window of each place, (N,) int32.
    """

    side: int
    grid: tuple[int, int]
    window: int
    rows: Tensor
    columns: Tensor
    top: Tensor
    left: Tensor

    def pack(self, x: Tensor) -> Tensor:
        """Order the tokens, (B, H, W, heads, D) -> (B, heads, N, D); other places are zero."""
        heads, dim = x.shape[3:]
        x = partition(pad_to_multiple(x.flatten(3), self.side), self.side).flatten(1, 2)
        tiles, tokens = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, SLOTS - tokens, 0, len(self.rows) // SLOTS - tiles))
        return x.flatten(1, 2).unflatten(2, (heads, dim)).transpose(1, 2)

    def unpack(self, x: Tensor, height: int, width: int) -> Tensor:
        """Undo `pack`, (B, heads, N, D) -> (B, height, width, heads, D)."""
        heads, dim = x.shape[1], x.shape[3]
        tiles = self.grid[0] * self.grid[1]
        x = x.transpose(1, 2).flatten(2).unflatten(1, (-1, SLOTS))[:, :tiles, : self.side**2]
        x = merge(x.unflatten(1, self.grid), self.side)[:, :height, :width]
        return x.unflatten(3, (heads, dim))

    def block_mask(self, block: int) -> BlockMask:
        """Return the mask, in blocks of `block` places; nothing of size (N, N) is computed."""
        rows, columns, top, left, window = self.rows, self.columns, self.top, self.left, self.window

        def in_window(batch, head, query, key):
            down, across = rows[key] - top[query], columns[key] - left[query]
            return (down >= 0) & (down < window) & (across >= 0) & (across < window)

        number = torch.arange(len(rows) // SLOTS, device=rows.device)
        y, x = number // self.grid[1], number % self.grid[1]
        near = ((y[:, None] - y).abs() <= 1) & ((x[:, None] - x).abs() <= 1)
        tiles, count = block // SLOTS, len(rows) // block
        near = near.view(count, tiles, count, tiles).any(3).any(1)
        order = near.int().argsort(dim=1, descending=True, stable=True).int()
        return BlockMask.from_kv_blocks(
            near.sum(1, dtype=torch.int32)[None, None],
            order[None, None],
            BLOCK_SIZE=block,
            mask_mod=in_window,
            seq_lengths=(len(rows), len(rows)),
        )


def halo_layout(
    height: int, width: int, block_size: int, halo_size: int, device: torch.device
) -> Layout:
    """Return the layout of halo attention; the padding to whole blocks is attended to."""

    def first(place: Tensor, length: int) -> Tensor:
        return place // block_size * block_size - halo_size

    whole = tuple(-(-length // block_size) * block_size for length in (height, width))
    return _layout(whole, block_size, block_size + 2 * halo_size, first, device)


def neighborhood_layout(height: int, width: int, kernel_size: int, device: torch.device) -> Layout:
    """Return the layout of neighborhood attention without dilation."""

    def first(place: Tensor, length: int) -> Tensor:
        return (place - kernel_size // 2).clamp(0, length - kernel_size)

    return _layout((height, width), SQUARE, kernel_size, first, device)


def _layout(
    size: tuple[int, int],
    side: int,
    window: int,
    first: Callable[[Tensor, int], Tensor],
    device: torch.device,
) -> Layout:
    """Return the layout of a map.

    Args:
        size: height and width of the part of the map that is attended to.
        side: side of a tile.
        window: side of a window.
        first: returns the first row or column of the windows of rows or columns, given the length.
        device: device of the tensors.
    """
    grid = tuple(-(-length // side) for length in size)
    places = -(-grid[0] * grid[1] * SLOTS // LENGTH) * LENGTH
    place = torch.arange(places, device=device)
    tile, slot = place // SLOTS, place % SLOTS
    exists = slot < side**2
    slot = slot.clamp(max=side**2 - 1)
    rows, columns = tile // grid[1] * side + slot // side, tile % grid[1] * side + slot % side
    exists &= (rows < size[0]) & (columns < size[1])
    top, left = first(rows, size[0]), first(columns, size[1])
    rows, columns = rows.where(exists, NOWHERE), columns.where(exists, NOWHERE)
    return Layout(side, grid, window, *(each.int() for each in (rows, columns, top, left)))


def halo(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height_rel: Tensor,
    width_rel: Tensor,
    block_size: int,
    halo_size: int,
    layout: Layout,
    mask: BlockMask,
) -> Tensor:
    """Compute `backbones.ops.attention.halo_attention` with the layout and mask of its map."""
    height, width, _, dim = q.shape[1:]

    def logits(equation: str, table: Tensor, length: int) -> Tensor:
        place = torch.arange(length, device=q.device)
        first = place // block_size * block_size - halo_size
        # The tables count from the place of the block in its window.
        index = _by_remainder(place, first, layout.window) + halo_size + layout.window - 1
        # A gradient of indexing would be summed by atomic additions.
        return torch.einsum(equation, q, F.one_hot(index, len(table)).to(table.dtype) @ table)

    vertical = logits('byxhd,yrd->byxhr', height_rel, height)
    horizontal = logits('byxhd,xrd->byxhr', width_rel, width)
    # The scale multiplies all channels.
    bias = torch.cat([vertical, horizontal], -1) * dim**0.5
    codes = [_one_hot(each, layout.window) for each in (layout.rows, layout.columns)]
    return _attend(q, k, v, bias, torch.cat(codes, -1), layout, mask)


def neighborhood(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, layout: Layout, mask: BlockMask
) -> Tensor:
    """Compute `backbones.ops.neighborhood_attention` without dilation."""
    batch, height, width, _, dim = q.shape
    kernel_size = layout.window

    def positions(length: int) -> Tensor:
        """Return the one-hot index into the table of each position and remainder."""
        place = torch.arange(length, device=q.device)
        first = (place - kernel_size // 2).clamp(0, length - kernel_size)
        index = _by_remainder(place, first, kernel_size) + kernel_size - 1
        return F.one_hot(index, 2 * kernel_size - 1).to(rpb.dtype)

    bias = torch.einsum('hij,xci->hjxc', rpb.mT, positions(width))
    bias = torch.einsum('hjxc,yrj->yxhrc', bias, positions(height)).flatten(3) * dim**0.5
    rows, columns = (_one_hot(each, kernel_size) for each in (layout.rows, layout.columns))
    code = (rows[:, :, None] * columns[:, None, :]).flatten(1)
    return _attend(q, k, v, bias.to(q.dtype).expand(batch, -1, -1, -1, -1), code, layout, mask)


def neighborhood_by_table(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, layout: Layout, mask: BlockMask
) -> Tensor:
    """Compute the same, reading the bias from the table; atomic additions sum its gradient."""
    height, width = q.shape[1:3]
    rows, columns, last = layout.rows, layout.columns, layout.window - 1

    def biased(score, batch, head, query, key):
        down = (rows[key] - rows[query]).clamp(-last, last) + last
        across = (columns[key] - columns[query]).clamp(-last, last) + last
        return score + rpb[head, down, across]

    out = flex_attention(*map(layout.pack, (q, k, v)), biased, mask)
    return layout.unpack(out, height, width)


def _by_remainder(place: Tensor, first: Tensor, window: int) -> Tensor:
    """Return the distance to the key of a window with each remainder, (length,) -> (length, window)."""
    remainder = torch.arange(window, device=place.device)
    return first[:, None] + (remainder - first[:, None]) % window - place[:, None]


def _one_hot(places: Tensor, window: int) -> Tensor:
    return places[:, None] % window == torch.arange(window, device=places.device)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, code: Tensor, layout: Layout, mask: BlockMask
) -> Tensor:
    """Attend with additional channels.

    Args:
        q, k, v: (B, H, W, heads, D).
        bias: additional channels of queries, (B, H, W, heads, E).
        code: additional channels of keys, (N, E) bool.
        layout, mask: of the map.
    """
    height, width, heads, dim = q.shape[1:]
    queries, keys, values = map(layout.pack, (torch.cat([q, bias], -1), k, v))
    code = code.to(k.dtype).expand(len(k), heads, -1, -1)
    out = flex_attention(queries, torch.cat([keys, code], -1), values, block_mask=mask, scale=dim**-0.5)
    return layout.unpack(out, height, width)
