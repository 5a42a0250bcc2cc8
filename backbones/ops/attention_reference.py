"""Halo, window and global attention in plain PyTorch, on any device and in any dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from backbones.ops.tracing import in_a_graph_for_others
from backbones.ops.windows import merge, pad_to_multiple, partition

# Low enough to vanish in the softmax; the released weights were trained with this value.
MASKED = -100.0


def halo_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height_rel: Tensor,
    width_rel: Tensor,
    block_size: int,
    halo_size: int,
) -> Tensor:
    """See `backbones.ops.attention.halo_attention`.

    Keys and values of the windows, several times the size of the map, are in memory for one layer at a
    time; the backward pass cuts them out again.
    """
    arguments = (q, k, v, height_rel, width_rel, block_size, halo_size)
    if not torch.is_grad_enabled() or in_a_graph_for_others():
        return on_cut_windows(*arguments)
    return recompute_in_backward(
        on_cut_windows, *arguments, use_reentrant=False, preserve_rng_state=False
    )


def on_cut_windows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height_rel: Tensor,
    width_rel: Tensor,
    block_size: int,
    halo_size: int,
) -> Tensor:
    """Compute halo attention with all windows in memory; autograd keeps them."""
    _, height, width, heads, dim = q.shape
    blocks = partition(pad_to_multiple(q.flatten(3), block_size), block_size)
    batch, rows, columns, tokens, _ = blocks.shape
    queries = blocks.reshape(-1, tokens, heads, dim).transpose(1, 2)
    bias = relative_logits(queries, height_rel, width_rel, block_size)
    outside = outside_map(rows, columns, block_size, halo_size, q.device)
    bias = bias.view(batch, rows * columns, *bias.shape[1:])
    bias = bias.masked_fill(outside[:, None, None], -torch.inf).flatten(0, 1)
    keys, values = (_halo_windows(x, block_size, halo_size) for x in (k, v))
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(q.dtype))
    out = out.transpose(1, 2).reshape(batch, rows, columns, tokens, heads * dim)
    return merge(out, block_size)[:, :height, :width].unflatten(3, (heads, dim))


def _halo_windows(x: Tensor, block_size: int, halo_size: int) -> Tensor:
    """Cut out the window around every block.

    (B, H, W, heads, D) -> (B * blocks, heads, window_size ** 2, D).
    """
    heads, dim = x.shape[3:]
    x = pad_to_multiple(x.flatten(3), block_size)
    x = F.pad(x, (0, 0, halo_size, halo_size, halo_size, halo_size))
    size = block_size + 2 * halo_size
    windows = x.unfold(1, size, block_size).unfold(2, size, block_size)
    windows = windows.unflatten(3, (heads, dim)).permute(0, 1, 2, 3, 5, 6, 4)
    return windows.reshape(-1, heads, size * size, dim)


def relative_logits(queries: Tensor, height_rel: Tensor, width_rel: Tensor, block_size: int) -> Tensor:
    """Compute the logits of relative positions from the unscaled queries (HaloNet, section 3.2).

    Args:
        queries: (blocks, heads, block_size ** 2, D).
        height_rel, width_rel: (2 * window_size - 1, D).

    Returns:
        (blocks, heads, block_size ** 2, window_size ** 2).
    """
    window = (len(height_rel) + 1) // 2
    queries = queries.unflatten(2, (block_size, block_size))
    device = queries.device
    index = torch.arange(window, device=device) - torch.arange(block_size, device=device)[:, None]
    index = index + window - 1
    vertical = torch.einsum('nhyxd,ykd->nhyxk', queries, height_rel[index])
    horizontal = torch.einsum('nhyxd,xkd->nhyxk', queries, width_rel[index])
    return (vertical[..., :, None] + horizontal[..., None, :]).flatten(4).flatten(2, 3)


def outside_map(
    rows: int, columns: int, block_size: int, halo_size: int, device: torch.device
) -> Tensor:
    """Return which keys of each window are outside the padded map.

    Args:
        rows, columns: number of blocks in the padded map.

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


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window_size: int, shift: int
) -> Tensor:
    """See `backbones.ops.attention.window_attention`."""
    _, height, width, heads, dim = q.shape
    rows, columns, tokens = height // window_size, width // window_size, window_size**2
    windows = []
    for x in (q, k, v):
        x = torch.roll(x, (-shift, -shift), (1, 2)) if shift else x
        x = partition(x.flatten(3), window_size).reshape(-1, rows * columns, tokens, heads, dim)
        windows.append(x.transpose(2, 3))
    if shift:
        # Merge windows into the axis of heads, so that one mask broadcasts over the whole batch.
        mask = shift_mask(height, width, window_size, shift, q.device)
        bias = (bias + mask[:, None]).flatten(0, 1)[None]
        windows = [x.flatten(1, 2) for x in windows]
    else:
        bias = bias[None]
        windows = [x.flatten(0, 1) for x in windows]
    out = F.scaled_dot_product_attention(*windows, attn_mask=bias.to(q.dtype))
    out = out.reshape(-1, rows, columns, heads, tokens, dim).transpose(3, 4).flatten(4)
    out = merge(out, window_size)
    out = torch.roll(out, (shift, shift), (1, 2)) if shift else out
    return out.unflatten(3, (heads, dim))


def shift_mask(height: int, width: int, window_size: int, shift: int, device: torch.device) -> Tensor:
    """Return the mask between tokens that are neighbors only because of the cyclic shift.

    Args:
        height, width: size of the padded map, multiples of `window_size`.

    Returns:
        (windows, window_size ** 2, window_size ** 2), 0 or `MASKED`, to add to the logits.
    """

    def regions(length: int) -> Tensor:
        position = torch.arange(length, device=device)
        return (position >= length - window_size).int() + (position >= length - shift).int()

    region = 3 * regions(height)[:, None] + regions(width)[None, :]
    region = partition(region[None, :, :, None], window_size).reshape(-1, window_size**2)
    apart = region[:, :, None] != region[:, None, :]
    return apart * MASKED


def global_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `backbones.ops.attention.global_attention`."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
