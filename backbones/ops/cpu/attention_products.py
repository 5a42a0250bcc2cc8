"""Products and softmax of attention for one window and head, on the CPU, compiled by numba.

Keys lie in memory with channels before keys. Four queries are processed at once, so that each loaded
SIMD vector of keys is used for four products, whose sums fill the registers. Sums are float32.
"""

import numpy as np

from backbones.ops.cpu.compiled import compiled, has_wide_vectors
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    dot,
    exponentials,
    filled_row,
    largest,
    load_number,
    load_row,
    maximum,
    multiply,
    store_row,
    zero_row,
)

# Cast constants to single precision, so that numba does not promote sums to float64.
F = np.float32
QUERIES = 4
# Four sums of this many numbers fill half of the vector registers.
KEYS = 64 if has_wide_vectors() else 16
LANES = (0,) * KEYS
# Used instead of minus infinity, since -inf - -inf is NaN.
NEVER = F(-1e30)


@compiled
def scratch(queries, keys, dim):
    """Allocate queries, keys, values, scores and results of one window, padded to whole vectors."""
    groups, tiles = (queries + QUERIES - 1) // QUERIES, (keys + KEYS - 1) // KEYS
    return (
        np.zeros((groups * QUERIES, dim), F),
        np.zeros((tiles, dim, KEYS), F),
        np.zeros((tiles * KEYS, dim), F),
        np.zeros((groups * QUERIES, tiles * KEYS), F),
        np.zeros((groups * QUERIES, dim), F),
    )


@compiled
def attend(queries, keys, values, scores, result, count, row, part):
    """Compute the softmax of scores plus scaled products of queries and keys, times values.

    Args:
        queries: (queries, D); scaled in place.
        keys: (tiles, D, KEYS).
        values: (tiles * KEYS, D).
        scores: (queries, tiles * KEYS); replaced by the weights, not yet divided by their sum.
        result: output, (queries, D).
        count: number of keys; the rest is padding.
    """
    scores[:, count:] = NEVER
    queries *= F(1) / np.sqrt(F(len(row)))
    add_products(queries, keys, scores, row)
    totals = np.empty(queries.shape[0], F)
    flat, length = scores.reshape(-1), scores.shape[1]
    for i in range(queries.shape[0]):
        totals[i] = softmax(flat, i * length, length)
    weigh(scores, values, totals, count, result, row, part)


@compiled
def add_products(queries, keys, scores, row):
    """Add the products of all queries and keys to the scores."""
    dim, tiles, groups = len(row), keys.shape[0], queries.shape[0] // QUERIES
    length = tiles * KEYS
    keys, queries, scores = keys.reshape(-1), queries.reshape(-1), scores.reshape(-1)
    for tile in range(tiles):
        for group in range(groups):
            start, first = QUERIES * group * length + tile * KEYS, QUERIES * group * dim
            s0, s1 = load_row(scores, start, LANES), load_row(scores, start + length, LANES)
            s2 = load_row(scores, start + 2 * length, LANES)
            s3 = load_row(scores, start + 3 * length, LANES)
            for channel in range(dim):
                key = load_row(keys, (tile * dim + channel) * KEYS, LANES)
                query = first + channel
                s0 = add_scaled(s0, load_number(queries, query), key)
                s1 = add_scaled(s1, load_number(queries, query + dim), key)
                s2 = add_scaled(s2, load_number(queries, query + 2 * dim), key)
                s3 = add_scaled(s3, load_number(queries, query + 3 * dim), key)
            store_row(scores, start, s0)
            store_row(scores, start + length, s1)
            store_row(scores, start + 2 * length, s2)
            store_row(scores, start + 3 * length, s3)


@compiled
def softmax(scores, start, length):
    """Replace one query's scores by exp(score - largest score), and return their sum."""
    peaks = load_row(scores, start, LANES)
    for j in range(start + KEYS, start + length, KEYS):
        peaks = maximum(peaks, load_row(scores, j, LANES))
    minus_peak, ones = filled_row(-largest(peaks), LANES), filled_row(F(1), LANES)
    total = zero_row(LANES)
    for j in range(start, start + length, KEYS):
        row = exponentials(add_scaled(minus_peak, F(1), load_row(scores, j, LANES)))
        store_row(scores, j, row)
        total = add_scaled(total, F(1), row)
    return dot(total, ones)


@compiled
def weigh(weights, values, totals, count, result, row, part):
    """Compute weighted sums of the values divided by `totals`, for `part` channels at a time."""
    dim, length = len(row), weights.shape[1]
    weights, values, flat = weights.reshape(-1), values.reshape(-1), result.reshape(-1)
    for group in range(result.shape[0] // QUERIES):
        first = QUERIES * group
        for channel in range(0, dim, len(part)):
            r0, r1, r2, r3 = zero_row(part), zero_row(part), zero_row(part), zero_row(part)
            for j in range(count):
                value, weight = load_row(values, j * dim + channel, part), first * length + j
                r0 = add_scaled(r0, load_number(weights, weight), value)
                r1 = add_scaled(r1, load_number(weights, weight + length), value)
                r2 = add_scaled(r2, load_number(weights, weight + 2 * length), value)
                r3 = add_scaled(r3, load_number(weights, weight + 3 * length), value)
            start = first * dim + channel
            store_row(flat, start, multiply(r0, filled_row(F(1) / totals[first], part)))
            store_row(flat, start + dim, multiply(r1, filled_row(F(1) / totals[first + 1], part)))
            store_row(flat, start + 2 * dim, multiply(r2, filled_row(F(1) / totals[first + 2], part)))
            store_row(flat, start + 3 * dim, multiply(r3, filled_row(F(1) / totals[first + 3], part)))
