"""Linear attention on the CPU: matrix products by PyTorch, all that is between them compiled by numba.

The features of the queries and of the keys are computed, turned and summed in one pass over memory. The
backward pass computes them again. Arithmetic between the products is in float32.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add_scaled,
    dot,
    exponentials,
    filled_row,
    load_row,
    maximum,
    minimum,
    multiply,
    store_row,
    swap_pairs,
    zero_row,
)
from backbones.ops.linear_attention_reference import EPSILON

# Longest run of channels in registers.
CHANNELS = 32
# Number of separate sums per image; fixed, so that results do not depend on the number of threads.
SUMS = 16
# Keep constants in 32 bits, so that numba does not promote to 64.
ONE, MINUS_ONE, TINY = np.float32(1), np.float32(-1), np.float32(EPSILON)


class Sizes(NamedTuple):
    """Sizes of a batch of maps; `table` is the length of a row of the tables, 0 to turn nothing."""

    height: int
    width: int
    channels: int
    head: int
    table: int


def forward(
    qk: Tensor, v: Tensor, down: Tensor | None, across: Tensor | None, num_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See `backbones.ops.linear_attention`.

    Returns:
        The output; the sums over the keys k'_j v_j^T / N, (B, heads, D, D); the mean of the keys before
        they are turned, (B, C) float32.
    """
    qk, v = qk.contiguous(), v.contiguous()
    arguments, images = _arguments(qk, down, across, num_heads)
    turned, out = torch.empty_like(v), torch.empty_like(v)
    sums = v.new_empty(len(v), num_heads, v.shape[3] // num_heads, v.shape[3] // num_heads)
    mean = torch.zeros(len(v), SUMS, v.shape[3])
    _run(_keys, images, *arguments, _flat(turned), _flat(mean))
    mean = mean.sum(1).div_(v.shape[1] * v.shape[2])
    heads = [_by_head(x, num_heads) for x in (turned, v, out)]
    for keys, values, _, total in zip(*heads, sums, strict=True):
        torch.bmm(keys.mT, values, out=total)
    _run(_queries, images, *arguments, _flat(mean), _flat(turned))
    for queries, _, result, total in zip(*heads, sums, strict=True):
        torch.bmm(queries, total, out=result)
    return out, sums, mean


def backward(
    grad: Tensor,
    qk: Tensor,
    v: Tensor,
    down: Tensor | None,
    across: Tensor | None,
    sums: Tensor,
    mean: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `qk` and `v`, from the gradient of the output and what `forward` kept."""
    grad, qk, v = (x.contiguous() for x in (grad, qk, v))
    num_heads = sums.shape[1]
    arguments, images = _arguments(qk, down, across, num_heads)
    grad_qk, grad_v, turned = torch.empty_like(qk), torch.empty_like(v), torch.empty_like(v)
    grad_sums, grad_mean = torch.empty_like(sums), torch.zeros(len(v), SUMS, v.shape[3])
    heads = [_by_head(x, num_heads) for x in (grad, v, turned, grad_v)]
    for grads, _, products, _, total in zip(*heads, sums, strict=True):
        torch.bmm(grads, total.mT, out=products)
    _run(
        _query_gradients,
        images,
        *arguments,
        _flat(mean),
        _flat(turned),
        _flat(grad_qk),
        _flat(grad_mean),
    )
    grad_mean = grad_mean.sum(1).div_(v.shape[1] * v.shape[2])
    for grads, values, products, _, total in zip(*heads, grad_sums, strict=True):
        torch.bmm(products.mT, grads, out=total)
        torch.bmm(values, total.mT, out=products)
    _run(_key_gradients, images, *arguments, _flat(grad_mean), _flat(turned), _flat(grad_qk))
    for _, _, products, grads, total in zip(*heads, grad_sums, strict=True):
        torch.bmm(products, total, out=grads)
    return grad_qk, grad_v


def _arguments(
    qk: Tensor, down: Tensor | None, across: Tensor | None, num_heads: int
) -> tuple[tuple, int]:
    """Return the arguments that all kernels take first, and the number of images."""
    batch, height, width, channels = qk.shape
    channels //= 2
    table, half = torch.empty(0), 0
    if down is not None and across is not None:
        # One row for every row of the map, then one for every column: cosines, then sines.
        table, half = torch.cat([down, across], 1).transpose(0, 1).contiguous(), channels // 2
    sizes = Sizes(height, width, channels, channels // num_heads, half)
    part = (0,) * math.gcd(sizes.head, half or sizes.head, CHANNELS)
    return (_flat(qk), _flat(table), sizes, part), batch


def _run(kernel, images: int, *arguments) -> None:
    """Run a kernel on all parts of all images; each part has its own sums."""
    for_ranges(lambda begin, end: kernel(*arguments, begin, end), images * SUMS)


def _by_head(x: Tensor, num_heads: int) -> Tensor:
    """View (B, H, W, C) as (B, heads, H * W, D)."""
    return x.flatten(1, 2).unflatten(2, (num_heads, -1)).transpose(1, 2)


def _flat(tensor: Tensor) -> np.ndarray:
    """Return the memory of a contiguous tensor; bfloat16 becomes int16, which NumPy supports."""
    tensor = tensor.detach().view(-1)
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@compiled
def _share(sizes, number):
    """Return the first token and the end of a part of an image."""
    tokens, share = sizes.height * sizes.width, number % SUMS
    image = number // SUMS * tokens
    return image + tokens * share // SUMS, image + tokens * (share + 1) // SUMS


@compiled
def _features(qk, start, part):
    """Return elu(x) + 1 = max(x, 0) + exp(min(x, 0))."""
    x, zero = load_row(qk, start, part), zero_row(part)
    return add_scaled(maximum(x, zero), ONE, exponentials(minimum(x, zero)))


@compiled
def _angles(sizes, token):
    """Return where the angles of a token's row and column start in the table."""
    place = token % (sizes.height * sizes.width)
    row, column = place // sizes.width, sizes.height + place % sizes.width
    return row * 2 * sizes.table, column * 2 * sizes.table - sizes.table


@compiled
def _turn(row, table, sizes, angles, channel, sign, part):
    """Turn the pairs of a row of channels by the token's angles times `sign`."""
    if sizes.table == 0:
        return row
    start = channel + (angles[0] if channel < sizes.table else angles[1])
    cosine = load_row(table, start, part)
    sine = load_row(table, start + sizes.table, part)
    return add_scaled(multiply(row, cosine), sign, multiply(swap_pairs(row), sine))


@compiled
def _scale(factor, row, part):
    return add_scaled(zero_row(part), factor, row)


@compiled
def _keys(qk, table, sizes, part, turned, sums, begin, end):
    """Store the turned keys, divided by the number of tokens, and add up the others."""
    share = np.float32(1 / (sizes.height * sizes.width))
    for number in range(begin, end):
        first, last = _share(sizes, number)
        for token in range(first, last):
            angles = _angles(sizes, token)
            for channel in range(0, sizes.channels, len(part)):
                k = _features(qk, (2 * token + 1) * sizes.channels + channel, part)
                at = number * sizes.channels + channel
                store_row(sums, at, add_scaled(load_row(sums, at, part), ONE, k))
                k = _scale(share, _turn(k, table, sizes, angles, channel, ONE, part), part)
                store_row(turned, token * sizes.channels + channel, k)


@compiled
def _queries(qk, table, sizes, part, mean, turned, begin, end):
    """Store the turned queries, divided by the sums of their weights."""
    row = np.empty(sizes.head, np.float32)
    for number in range(begin, end):
        image = number // SUMS * sizes.channels
        first, last = _share(sizes, number)
        for token in range(first, last):
            angles = _angles(sizes, token)
            for head in range(0, sizes.channels, sizes.head):
                weight = TINY
                for channel in range(0, sizes.head, len(part)):
                    at = head + channel
                    q = _features(qk, 2 * token * sizes.channels + at, part)
                    weight += dot(q, load_row(mean, image + at, part))
                    store_row(row, channel, _turn(q, table, sizes, angles, at, ONE, part))
                for channel in range(0, sizes.head, len(part)):
                    q = _scale(ONE / weight, load_row(row, channel, part), part)
                    store_row(turned, token * sizes.channels + head + channel, q)


@compiled
def _query_gradients(qk, table, sizes, part, mean, turned, grad_qk, grad_mean, begin, end):
    """Read the products of output gradients and sums from `turned`, and leave what `_queries` stores."""
    one = filled_row(ONE, part)
    row = np.empty(sizes.head, np.float32)
    for number in range(begin, end):
        image = number // SUMS * sizes.channels
        first, last = _share(sizes, number)
        for token in range(first, last):
            angles = _angles(sizes, token)
            for head in range(0, sizes.channels, sizes.head):
                place, source = token * sizes.channels + head, 2 * token * sizes.channels + head
                weight, slope = TINY, np.float32(0)
                for channel in range(0, sizes.head, len(part)):
                    q = _features(qk, source + channel, part)
                    store_row(row, channel, q)
                    weight += dot(q, load_row(mean, image + head + channel, part))
                    q = _turn(q, table, sizes, angles, head + channel, ONE, part)
                    slope += dot(q, load_row(turned, place + channel, part))
                weight = ONE / weight
                slope *= -weight * weight
                for channel in range(0, sizes.head, len(part)):
                    at = head + channel
                    q = load_row(row, channel, part)
                    grad = load_row(turned, place + channel, part)
                    grad = _scale(weight, _turn(grad, table, sizes, angles, at, MINUS_ONE, part), part)
                    grad = add_scaled(grad, slope, load_row(mean, image + at, part))
                    store_row(grad_qk, source + channel, multiply(grad, minimum(q, one)))
                    total = load_row(grad_mean, number * sizes.channels + at, part)
                    store_row(grad_mean, number * sizes.channels + at, add_scaled(total, slope, q))
                    q = _scale(weight, _turn(q, table, sizes, angles, at, ONE, part), part)
                    store_row(turned, place + channel, q)


@compiled
def _key_gradients(qk, table, sizes, part, grad_mean, turned, grad_qk, begin, end):
    """Read the gradients of turned keys from `turned`, and leave what `_keys` stores."""
    one = filled_row(ONE, part)
    share = np.float32(1 / (sizes.height * sizes.width))
    for number in range(begin, end):
        image = number // SUMS * sizes.channels
        first, last = _share(sizes, number)
        for token in range(first, last):
            angles = _angles(sizes, token)
            for channel in range(0, sizes.channels, len(part)):
                place = token * sizes.channels + channel
                source = (2 * token + 1) * sizes.channels + channel
                k = _features(qk, source, part)
                grad = load_row(turned, place, part)
                grad = _scale(share, _turn(grad, table, sizes, angles, channel, MINUS_ONE, part), part)
                grad = add_scaled(grad, ONE, load_row(grad_mean, image + channel, part))
                store_row(grad_qk, source, multiply(grad, minimum(k, one)))
                k = _scale(share, _turn(k, table, sizes, angles, channel, ONE, part), part)
                store_row(turned, place, k)
