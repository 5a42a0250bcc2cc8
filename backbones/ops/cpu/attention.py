"""Attention on the CPU, compiled by numba.

Windows are never cut out of the map in memory. For one window of one head at a time, queries, keys and
values are copied to arrays that stay in the cache, where `attention_products` computes.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones.ops import attention_reference
from backbones.ops.cpu.attention_products import KEYS, LANES, NEVER, F, attend, scratch
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    filled_row,
    load_number,
    load_row,
    store_row,
    zero_row,
)

QUERY_TILE = 32
MASKED = F(attention_reference.MASKED)


class Tables(NamedTuple):
    """Relative position embeddings, (D, positions); the positions after 2 * window - 1 are padding.

    The tuples `positions` and `side` are as long as a row of the table and as the side of a window.
    """

    height: np.ndarray
    width: np.ndarray
    positions: tuple[int, ...]
    side: tuple[int, ...]


class Cut(NamedTuple):
    """A map, and how it is cut into squares of side `side`.

    Squares start at token `shift` and wrap around; their windows extend `halo` tokens beyond them.
    """

    height: int
    width: int
    heads: int
    side: int
    halo: int = 0
    shift: int = 0


def halo_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height_rel: Tensor,
    width_rel: Tensor,
    block_size: int,
    halo_size: int,
) -> Tensor:
    """See `backbones.ops.attention.halo_attention`."""
    batch, height, width, heads, dim = q.shape
    out = torch.empty(q.shape, dtype=q.dtype)
    rows, columns = -(-height // block_size), -(-width // block_size)
    tables = padded_tables(height_rel, width_rel, block_size + 2 * halo_size)
    cut = Cut(height, width, heads, block_size, halo=halo_size)
    maps = ((memory(q), memory(k), memory(v)), memory(out))
    arguments = (*maps, tables, cut, *row_and_part(dim))
    for_ranges(lambda begin, end: _halo_blocks(*arguments, begin, end), batch * rows * columns)
    return out


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window_size: int, shift: int
) -> Tensor:
    """See `backbones.ops.attention.window_attention`."""
    batch, height, width, heads, dim = q.shape
    out = torch.empty(q.shape, dtype=q.dtype)
    rows, columns = height // window_size, width // window_size
    cut = Cut(height, width, heads, window_size, shift=shift)
    maps = ((memory(q), memory(k), memory(v)), memory(out))
    arguments = (*maps, padded_bias(bias), cut, *row_and_part(dim))
    for_ranges(lambda begin, end: _shifted_windows(*arguments, begin, end), batch * rows * columns)
    return out


def global_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `backbones.ops.attention.global_attention`."""
    batch, tokens, heads, dim = q.shape
    out = torch.empty(q.shape, dtype=q.dtype)
    tiles = -(-tokens // QUERY_TILE)
    maps = ((memory(q), memory(k), memory(v)), memory(out))
    sizes = (tokens, k.shape[1], heads, *row_and_part(dim))
    for_ranges(lambda begin, end: _query_tiles(*maps, *sizes, begin, end), batch * heads * tiles)
    return out


def padded_tables(height_rel: Tensor, width_rel: Tensor, window: int) -> Tables:
    """Transpose tables of (positions, D) and zero-pad them to whole vectors."""
    turned = torch.stack((height_rel, width_rel)).detach().float().transpose(1, 2)
    padded = torch.nn.functional.pad(turned, (0, -turned.shape[2] % 16)).contiguous().numpy()
    return Tables(*padded, (0,) * padded.shape[2], (0,) * window)


def padded_bias(bias: Tensor) -> np.ndarray:
    """Zero-pad the keys of a bias (heads, queries, keys) to whole vectors."""
    padded = torch.nn.functional.pad(bias.detach().float(), (0, -bias.shape[-1] % KEYS))
    return padded.contiguous().numpy()


def memory(tensor: Tensor) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the storage of a (B, ..., heads, D) tensor, and its offset, token stride and head stride.

    Tokens of all images must have one constant stride. bfloat16 becomes int16, which NumPy supports.
    """
    place = (tensor.storage_offset(), tensor.stride(-3), tensor.stride(-2))
    elements = tensor.untyped_storage().nbytes() // tensor.element_size()
    flat = tensor.detach().as_strided((elements,), (1,), 0)
    return (flat.view(torch.int16) if flat.dtype == torch.bfloat16 else flat).numpy(), place


def row_and_part(dim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the widths of a row of channels, and of the part whose sums fit in registers."""
    return (0,) * dim, (0,) * math.gcd(dim, KEYS)


@compiled
def _place(place, token, head):
    return place[0] + token * place[1] + head * place[2]


@compiled
def _halo_blocks(inputs, out, tables, cut, row, part, begin, end):
    """Process blocks `begin` to `end` of all images, with all heads."""
    q, k, v = inputs
    dim, window = len(row), cut.side + 2 * cut.halo
    rows, columns = -(-cut.height // cut.side), -(-cut.width // cut.side)
    queries, keys, values, scores, result = scratch(cut.side**2, window**2, dim)
    tokens, neighbors = np.empty(cut.side**2, np.int64), np.empty(window**2, np.int64)
    for block in range(begin, end):
        image, at = block // (rows * columns), block % (rows * columns)
        top, left = at // columns * cut.side, at % columns * cut.side
        square(tokens, cut, image, top, left, cut.side, False)
        square(neighbors, cut, image, top - cut.halo, left - cut.halo, window, False)
        for head in range(cut.heads):
            load_queries(q, tokens, head, queries, row)
            relative_logits(queries, tables, scores, cut.side, row)
            mask_outside(scores, cut, top, left)
            load_keys(k, neighbors, head, keys, dim)
            load_values(v, neighbors, head, values, row)
            attend(queries, keys, values, scores, result, neighbors.size, row, part)
            store(result, out, tokens, head, row)


@compiled
def _shifted_windows(inputs, out, bias, cut, row, part, begin, end):
    """Process windows `begin` to `end` of all images, with all heads."""
    q, k, v = inputs
    dim, count = len(row), cut.side**2
    rows, columns = cut.height // cut.side, cut.width // cut.side
    queries, keys, values, scores, result = scratch(count, count, dim)
    tokens = np.empty(count, np.int64)
    for window in range(begin, end):
        image, at = window // (rows * columns), window % (rows * columns)
        top, left = at // columns * cut.side + cut.shift, at % columns * cut.side + cut.shift
        square(tokens, cut, image, top, left, cut.side, True)
        for head in range(cut.heads):
            load_queries(q, tokens, head, queries, row)
            copy_rows(bias[head], scores)
            if cut.shift:
                mask_wrapped(scores, cut, top, left)
            load_keys(k, tokens, head, keys, dim)
            load_values(v, tokens, head, values, row)
            attend(queries, keys, values, scores, result, count, row, part)
            store(result, out, tokens, head, row)


@compiled
def copy_rows(source, target):
    """Copy rows whose length is a multiple of the vector width."""
    source, target = source.reshape(-1), target.reshape(-1)
    for start in range(0, source.size, KEYS):
        store_row(target, start, load_row(source, start, LANES))


@compiled
def mask_wrapped(scores, cut, top, left):
    """Mask the scores between the part of a window that wraps around the map and the rest."""
    side, start = cut.side, cut.side - cut.shift
    wraps_down, wraps_across = top >= cut.height - start, left >= cut.width - start
    for i in range(side * side):
        for j in range(side * side):
            down = wraps_down and (i // side >= start) != (j // side >= start)
            across = wraps_across and (i % side >= start) != (j % side >= start)
            if down or across:
                scores[i, j] += MASKED


@compiled
def _query_tiles(inputs, out, tokens, count, heads, row, part, begin, end):
    """Process query tiles `begin` to `end` of all heads of all images."""
    q, k, v = inputs
    dim, tiles = len(row), -(-tokens // QUERY_TILE)
    queries, keys, values, scores, result = scratch(QUERY_TILE, count, dim)
    places, others = np.empty(QUERY_TILE, np.int64), np.arange(count)
    loaded = -1
    for job in range(begin, end):
        image, head = job // tiles // heads, job // tiles % heads
        if job // tiles != loaded:
            loaded = job // tiles
            load_keys(k, others + image * count, head, keys, dim)
            load_values(v, others + image * count, head, values, row)
        for i in range(QUERY_TILE):
            token = job % tiles * QUERY_TILE + i
            places[i] = image * tokens + token if token < tokens else -1
        scores[:, :count] = F(0)
        load_queries(q, places, head, queries, row)
        attend(queries, keys, values, scores, result, count, row, part)
        store(result, out, places, head, row)


@compiled
def square(tokens, cut, image, top, left, side, wraps):
    """Write the token indices of a square, counted over all images; -1 outside, unless `wraps`."""
    for i in range(side * side):
        y, x = top + i // side, left + i % side
        if wraps:
            y, x = y % cut.height, x % cut.width
        inside = 0 <= y < cut.height and 0 <= x < cut.width
        tokens[i] = (image * cut.height + y) * cut.width + x if inside else -1


@compiled
def load_queries(q, tokens, head, queries, row):
    """Load the unscaled queries of the tokens, (queries, D); zeros for -1."""
    numbers, place = q
    flat = queries.reshape(-1)
    for i in range(tokens.size):
        if tokens[i] >= 0:
            store_row(flat, i * len(row), load_row(numbers, _place(place, tokens[i], head), row))
        else:
            store_row(flat, i * len(row), zero_row(row))


@compiled
def load_keys(k, tokens, head, keys, dim):
    """Load the keys of the tokens, (tiles, D, KEYS); zeros for -1."""
    numbers, place = k
    for j in range(tokens.size):
        start = _place(place, tokens[j], head)
        for channel in range(dim):
            number = load_number(numbers, start + channel) if tokens[j] >= 0 else F(0)
            keys[j // KEYS, channel, j % KEYS] = number


@compiled
def load_values(v, tokens, head, values, row):
    """Load the values of the tokens, (keys, D); zeros for -1."""
    numbers, place = v
    flat = values.reshape(-1)
    for j in range(tokens.size):
        if tokens[j] >= 0:
            store_row(flat, j * len(row), load_row(numbers, _place(place, tokens[j], head), row))
        else:
            store_row(flat, j * len(row), zero_row(row))


@compiled
def relative_logits(queries, tables, scores, block, row):
    """Write the logits of relative positions to `scores`, (queries, keys)."""
    height_rel, width_rel, positions, side = tables
    window, length = len(side), scores.shape[1]
    logits = np.empty((2, len(positions)), F)
    flat, scores = logits.reshape(-1), scores.reshape(-1)
    height_rel, width_rel = height_rel.reshape(-1), width_rel.reshape(-1)
    for i in range(block * block):
        vertical, horizontal = zero_row(positions), zero_row(positions)
        for channel in range(len(row)):
            start, query = channel * len(positions), queries[i, channel]
            vertical = add_scaled(vertical, query, load_row(height_rel, start, positions))
            horizontal = add_scaled(horizontal, query, load_row(width_rel, start, positions))
        store_row(flat, 0, vertical)
        store_row(flat, len(positions), horizontal)
        y, x = i // block, i % block
        across = load_row(flat, len(positions) + window - 1 - x, side)
        for down in range(window):
            here = filled_row(logits[0, down - y + window - 1], side)
            store_row(scores, i * length + down * window, add_scaled(across, F(1), here))


@compiled
def mask_outside(scores, cut, top, left):
    """Mask the keys outside the map, padded to whole blocks, for the block at `top` and `left`."""
    window = cut.side + 2 * cut.halo
    rows, columns = -(-cut.height // cut.side) * cut.side, -(-cut.width // cut.side) * cut.side
    for j in range(window * window):
        y, x = top - cut.halo + j // window, left - cut.halo + j % window
        if not (0 <= y < rows and 0 <= x < columns):
            for i in range(cut.side**2):
                scores[i, j] = NEVER


@compiled
def store(result, out, tokens, head, row):
    """Write the rows of all tokens except -1."""
    numbers, place = out
    flat = result.reshape(-1)
    for i in range(tokens.size):
        if tokens[i] >= 0:
            store_row(numbers, _place(place, tokens[i], head), load_row(flat, i * len(row), row))
