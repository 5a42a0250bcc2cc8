"""Shared parts of attention gradients on the CPU, compiled by numba."""

from backbones.ops.cpu.attention_products import KEYS, LANES, NEVER, QUERIES, F, add_products, softmax
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.vector_rows import (
    add_product,
    add_scaled,
    dot,
    filled_row,
    load_number,
    load_row,
    multiply,
    store_row,
    zero_row,
)


@compiled
def weights_of(queries, keys, scores, count, row):
    """Turn logits of positions into attention weights in place, (queries, tiles * KEYS)."""
    scores[:, count:] = NEVER
    add_products(queries, keys, scores, row)
    flat, length = scores.reshape(-1), scores.shape[1]
    for i in range(scores.shape[0]):
        share = filled_row(F(1) / softmax(flat, i * length, length), LANES)
        for start in range(i * length, (i + 1) * length, KEYS):
            store_row(flat, start, multiply(load_row(flat, start, LANES), share))


@compiled
def slopes_of_scores(weights, slopes):
    """Turn gradients of the weights into those of the scores in place, (queries, tiles * KEYS)."""
    length = weights.shape[1]
    weights, slopes = weights.reshape(-1), slopes.reshape(-1)
    ones = filled_row(F(1), LANES)
    for first in range(0, weights.size, length):
        total = zero_row(LANES)
        for start in range(first, first + length, KEYS):
            total = add_product(total, load_row(weights, start, LANES), load_row(slopes, start, LANES))
        minus_mean = filled_row(-dot(total, ones), LANES)
        for start in range(first, first + length, KEYS):
            rest = add_scaled(minus_mean, F(1), load_row(slopes, start, LANES))
            store_row(slopes, start, multiply(load_row(weights, start, LANES), rest))


@compiled
def weigh_transposed(weights, rows, result, row, part):
    """Compute the weighted sum of the queries' rows for every key, (tiles * KEYS, D)."""
    dim, length, count = len(row), weights.shape[1], weights.shape[0]
    weights, rows, flat = weights.reshape(-1), rows.reshape(-1), result.reshape(-1)
    for first in range(0, length, QUERIES):
        for channel in range(0, dim, len(part)):
            r0, r1, r2, r3 = zero_row(part), zero_row(part), zero_row(part), zero_row(part)
            for i in range(count):
                values, weight = load_row(rows, i * dim + channel, part), i * length + first
                r0 = add_scaled(r0, load_number(weights, weight), values)
                r1 = add_scaled(r1, load_number(weights, weight + 1), values)
                r2 = add_scaled(r2, load_number(weights, weight + 2), values)
                r3 = add_scaled(r3, load_number(weights, weight + 3), values)
            start = first * dim + channel
            store_row(flat, start, r0)
            store_row(flat, start + dim, r1)
            store_row(flat, start + 2 * dim, r2)
            store_row(flat, start + 3 * dim, r3)
