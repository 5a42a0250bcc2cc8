"""Gradients of halo attention on the CPU, compiled by numba.

As in the forward pass, one window of one head at a time is processed in the cache; its weights are
computed again. Windows only overlap with those of the adjacent rows of blocks, so every other row is
processed in parallel, and no two threads add to the same token.
"""

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.attention import (
    Cut,
    load_keys,
    load_queries,
    load_values,
    mask_outside,
    memory,
    padded_tables,
    relative_logits,
    row_and_part,
    square,
)
from backbones.ops.cpu.attention_gradients import slopes_of_scores, weigh_transposed, weights_of
from backbones.ops.cpu.attention_products import F, add_products, scratch, weigh
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    dot,
    filled_row,
    load_row,
    store_row,
    zero_row,
)


def serves(block_size: int, halo_size: int) -> bool:
    """Return whether windows in every other row of blocks do not overlap."""
    return 2 * halo_size <= block_size


def halo_gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height_rel: Tensor,
    width_rel: Tensor,
    block_size: int,
    halo_size: int,
) -> tuple[Tensor, ...]:
    """Return the gradients of the five tensors of `backbones.ops.attention.halo_attention`.

    Each gradient has the dtype of its tensor. Deterministic for any number of threads.

    Args:
        grad: output gradient, (B, H, W, heads, D).
        q, k, v, height_rel, width_rel, block_size, halo_size: same as in the forward pass.
    """
    batch, height, width, heads, dim = q.shape
    grad = grad.to(q.dtype).contiguous()
    rows, window = -(-height // block_size), block_size + 2 * halo_size
    gradients = [torch.zeros(q.shape) for _ in range(3)]
    table_sums = torch.zeros(batch * rows * heads, 2, 2 * window - 1, dim)
    padded = padded_tables(height_rel, width_rel, window)
    tables = torch.stack((height_rel, width_rel)).detach().float().contiguous()
    flat = tuple(tensor.view(-1).numpy() for tensor in gradients)
    maps = (memory(grad), (memory(q), memory(k), memory(v)), flat)
    relative = (padded, tables.view(-1).numpy(), table_sums.flatten(1).numpy())
    cut = Cut(height, width, heads, block_size, halo=halo_size)
    arguments = (*maps, *relative, cut, *row_and_part(dim))
    for parity in range(2):
        jobs = batch * len(range(parity, rows, 2)) * heads
        for_ranges(
            lambda begin, end, parity=parity: _block_rows(*arguments, parity, begin, end),
            jobs,
        )
    grad_height, grad_width = table_sums.sum(0)
    found = (*gradients, grad_height, grad_width)
    inputs = (q, k, v, height_rel, width_rel)
    return tuple(x.to(tensor.dtype) for x, tensor in zip(found, inputs, strict=True))


@compiled
def _block_rows(grad, inputs, gradients, padded, tables, table_sums, cut, row, part, parity, begin, end):
    """Process jobs `begin` to `end`: one row of blocks and one head each, for rows of one parity."""
    (q, k, v), (grad_q, grad_k, grad_v) = inputs, gradients
    dim, window = len(row), cut.side + 2 * cut.halo
    rows, columns = -(-cut.height // cut.side), -(-cut.width // cut.side)
    rows_of_parity, scale = (rows - parity + 1) // 2, F(1) / np.sqrt(F(dim))
    queries, keys, key_rows, scores, result = scratch(cut.side**2, window**2, dim)
    grads, values, local, slopes, _ = scratch(cut.side**2, window**2, dim)
    roots = np.full(queries.shape[0], np.sqrt(F(dim)), F)
    tokens, neighbors = np.empty(cut.side**2, np.int64), np.empty(window**2, np.int64)
    for job in range(begin, end):
        head, image = job % cut.heads, job // cut.heads // rows_of_parity
        block_row = job // cut.heads % rows_of_parity * 2 + parity
        top = block_row * cut.side
        table_sum = table_sums[(image * rows + block_row) * cut.heads + head]
        for left in range(0, columns * cut.side, cut.side):
            square(tokens, cut, image, top, left, cut.side, False)
            square(neighbors, cut, image, top - cut.halo, left - cut.halo, window, False)
            load_queries(q, tokens, head, queries, row)
            load_queries(grad, tokens, head, grads, row)
            load_keys(k, neighbors, head, keys, dim)
            load_keys(v, neighbors, head, values, dim)
            load_values(k, neighbors, head, key_rows, row)
            relative_logits(queries, padded, scores, cut.side, row)
            mask_outside(scores, cut, top, left)
            queries *= scale
            weights_of(queries, keys, scores, neighbors.size, row)
            slopes[:] = F(0)
            add_products(grads, values, slopes, row)
            weigh_transposed(scores, grads, local, row, part)
            _add_to(grad_v, local, neighbors, cut.heads, head, row)
            slopes_of_scores(scores, slopes)
            weigh_transposed(slopes, queries, local, row, part)
            _add_to(grad_k, local, neighbors, cut.heads, head, row)
            weigh(slopes, key_rows, roots, neighbors.size, result, row, part)
            queries *= F(1) / scale
            _relative_gradients(slopes, queries, result, tables, table_sum, cut.side, row, padded.side)
            _add_to(grad_q, result, tokens, cut.heads, head, row)


@compiled
def _relative_gradients(slopes, queries, result, tables, table_sum, block, row, side):
    """Add the contribution of the relative positions to the gradients of queries and tables.

    Args:
        slopes: gradients of the scores, (queries, tiles * KEYS).
        queries, result: unscaled queries and their gradients, (queries, D).
        tables, table_sum: tables of heights and widths and their gradients, flat (2, 2 * window - 1, D).
        side: tuple as long as the window's side.
    """
    dim, window, length = len(row), len(side), slopes.shape[1]
    slopes, queries, result = slopes.reshape(-1), queries.reshape(-1), result.reshape(-1)
    # Sums of the slopes over columns and over rows.
    by_place = np.empty((2, window), F)
    flat, ones = by_place.reshape(-1), filled_row(F(1), side)
    for i in range(block * block):
        y, x = i // block, i % block
        across = zero_row(side)
        for down in range(window):
            here = load_row(slopes, i * length + down * window, side)
            by_place[0, down] = dot(here, ones)
            across = add_scaled(across, F(1), here)
        store_row(flat, window, across)
        query, total = load_row(queries, i * dim, row), load_row(result, i * dim, row)
        for axis in range(2):
            first = (axis * (2 * window - 1) + window - 1 - (x if axis else y)) * dim
            for place in range(window):
                slope, at = by_place[axis, place], first + place * dim
                total = add_scaled(total, slope, load_row(tables, at, row))
                added = add_scaled(load_row(table_sum, at, row), slope, query)
                store_row(table_sum, at, added)
        store_row(result, i * dim, total)


@compiled
def _add_to(target, rows, tokens, heads, head, row):
    """Add rows to those of all tokens except -1 in a map of (tokens, heads, D)."""
    flat = rows.reshape(-1)
    for i in range(tokens.size):
        if tokens[i] >= 0:
            start = (tokens[i] * heads + head) * len(row)
            added = add_scaled(load_row(target, start, row), F(1), load_row(flat, i * len(row), row))
            store_row(target, start, added)
