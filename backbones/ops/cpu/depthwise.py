"""Depthwise convolution with large kernels on the CPU, compiled by numba.

Two rows of output are computed together, by three rows of the kernel at a time, with four products
instead of six (Winograd's minimal filtering F(2, 3), along columns). With input rows r, kernel rows w
and output rows o:

    o0 = r0 w0 + r1 w1 + r2 w2 = m0 + m1 + m2    m0 = (r0 - r2) w0    m1 = (r1 + r2) (w0 + w1 + w2) / 2
    o1 = r1 w0 + r2 w1 + r3 w2 = m1 - m2 - m3    m3 = (r1 - r3) w2    m2 = (r2 - r1) (w0 - w1 + w2) / 2

Each product is a correlation of rows. The factors are computed once, and m is summed over all groups of
three kernel rows. Such small coefficients do not add to the rounding errors. The weight gradient is the
transpose of this computation.

Taps outside the map are skipped. At 128x200x64 and K = 31 (one core of Zen 4), an output takes 25 ms,
and 37 ms with oneDNN; an input gradient 25 and 45 ms; a weight gradient 31 and 2000 ms. FFTs, which need
float32 and channels first, take 55 ms.
"""

import math

import numpy as np
import torch
from torch import Tensor

from backbones.ops import depthwise_reference
from backbones.ops.cpu.compiled import compiled, has_wide_vectors
from backbones.ops.cpu.convolution import depthwise_weight_gradient
from backbones.ops.cpu.threads import for_ranges
from backbones.ops.cpu.vector_rows import (
    add,
    add_product,
    add_products,
    filled_row,
    load_row,
    multiply,
    repeated,
    store_row,
    subtract,
    zero_row,
)

# oneDNN computes outputs of smaller kernels and maps as fast or faster.
SMALLEST_SIDE, FEWEST_TOKENS = 11, 400
# Channels processed together, and columns of output in registers: half of all vector registers.
LANES, COLUMNS = 16 if has_wide_vectors() else 8, 8
# Columns whose factors are in the first-level cache at once.
CHUNK = 64
# Rows of output whose factors are in the second-level cache at once; even.
STRIP = 32
# float32 numbers in a cache line.
LINE = 16
# Rows of output and of the kernel that are processed together, and their products.
ROWS, TAPS, PRODUCTS = 2, 3, 4
# Factors of each row of the map.
FACTORS = 3
# Number of separate sums; fixed, so that the result does not depend on the number of threads.
SUMS = 8


def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """See `backbones.ops.depthwise`; half precision is summed in float32."""
    if weight.shape[-1] < SMALLEST_SIDE or x.shape[1] * x.shape[2] < FEWEST_TOKENS:
        return depthwise_reference.forward(x, weight, bias)
    batch, height, width, channels = x.shape
    side, vector = weight.shape[-1], _vector(channels)
    # (C / lanes, K, K, lanes)
    weight = weight.detach().float().reshape(-1, len(vector), side, side).permute(0, 2, 3, 1)
    bias = torch.zeros(channels) if bias is None else bias.detach().float()
    out = torch.empty(x.shape, dtype=_computed(x).dtype)
    arrays = [_flat(tensor) for tensor in (_computed(x), weight, bias, out)]
    sizes = height, width, channels, side
    arguments = (*arrays, sizes, vector, COLUMNS * vector, COLUMNS * (0,))
    items = channels // len(vector) * batch * _parts(sizes)
    for_ranges(lambda begin, end: _outputs(*arguments, begin, end), items)
    return out.to(x.dtype)


def weight_gradient(x: Tensor, grad: Tensor, side: int) -> Tensor:
    """Return the gradient of the weight, (C, 1, side, side) float32.

    Args:
        x, grad: input and output gradient, (B, H, W, C), in the same dtype.
        side: side of the kernel; odd.
    """
    if side < SMALLEST_SIDE:
        return depthwise_weight_gradient(x.float(), grad.float(), side).contiguous()
    batch, height, width, channels = x.shape
    vector = _vector(channels)
    blocks, groups = channels // len(vector), -(-side // TAPS)
    sums = torch.zeros(blocks * SUMS, PRODUCTS * groups * side * len(vector))
    arrays = _flat(_computed(x)), _flat(_computed(grad)), sums.numpy()
    arguments = (*arrays, batch, (height, width, channels, side), vector, COLUMNS * vector)
    for_ranges(lambda begin, end: _weight_sums(*arguments, begin, end), blocks * SUMS)
    m0, m1, m2, m3 = sums.view(blocks, SUMS, PRODUCTS, groups, side, -1).sum(1).unbind(1)
    half_sum = (m1 + m2) / 2
    rows = torch.stack([m0 + half_sum, (m1 - m2) / 2, half_sum + m3], 2).flatten(1, 2)[:, :side]
    found = rows.permute(0, 3, 1, 2).reshape(channels, 1, side, side)
    # Rounding errors in taps that never meet the map would be large steps for an adaptive optimizer.
    whole, reach = torch.zeros_like(found), depthwise_reference.reach_in_map(x, side)
    depthwise_reference.cropped(whole, reach).copy_(depthwise_reference.cropped(found, reach))
    return whole


def _computed(x: Tensor) -> Tensor:
    """Return `x` in a dtype that the compiled code reads."""
    return x.detach() if x.dtype in (torch.float32, torch.bfloat16) else x.detach().float()


def _flat(x: Tensor) -> np.ndarray:
    x = x.contiguous().view(-1)
    return (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()


def _vector(channels: int) -> tuple[int, ...]:
    """Return a tuple as long as the number of channels that are processed together."""
    return (0,) * math.gcd(channels, LANES)


@compiled
def _outputs(x, weight, bias, out, sizes, vector, tile, columns, begin, end):
    """Compute items `begin` to `end`; an item is a part of the map for some channels."""
    height, width, channels, side = sizes
    lanes, groups = len(vector), (side + TAPS - 1) // TAPS
    span, parts = (CHUNK + COLUMNS + side) * lanes, _parts(sizes)
    maps = _aligned((STRIP + side + TAPS) * FACTORS * span)
    sums, kernel = _aligned(PRODUCTS * span), _aligned(PRODUCTS * groups * side * lanes)
    blocks = channels // lanes
    for item in range(begin, end):
        # Channels last, so that threads write to different pages of memory.
        image, part, block = item // blocks // parts, item // blocks % parts, item % blocks
        channel = block * lanes
        _weight_factors(weight, kernel, block, groups, side, vector)
        bounds = _bounds(part, sizes)
        top, bottom, left, right = bounds
        _map_factors(x, maps, image, bounds, channel, span, sizes, vector)
        for y in range(top, bottom, ROWS):
            sums[:] = 0
            for group in range(groups):
                upper = y + TAPS * group - side // 2
                if upper <= -PRODUCTS or upper >= height:
                    continue
                for product in range(PRODUCTS):
                    row = (product * groups + group) * side * lanes
                    source = ((y - top + TAPS * group) * FACTORS + product) * span
                    for column in range(left, right, COLUMNS):
                        first, last = _taps(column, width, side)
                        within = (column - left) * lanes
                        total = load_row(sums, product * span + within, tile)
                        for tap in range(first, last):
                            near = load_row(maps, source + within + tap * lanes, tile)
                            factor = repeated(load_row(kernel, row + tap * lanes, vector), columns)
                            total = add_product(total, factor, near)
                        store_row(sums, product * span + within, total)
            _write(out, sums, bias, image, y, left, right, channel, span, sizes, vector)


@compiled
def _parts(sizes):
    """Return the number of parts of a map."""
    height, width, _, _ = sizes
    return (height + STRIP - 1) // STRIP * ((width + CHUNK - 1) // CHUNK)


@compiled
def _bounds(part, sizes):
    """Return the first row of a part, its last row + 1, and the same of columns, by `COLUMNS`."""
    height, width, _, _ = sizes
    tiles, chunks = (width + COLUMNS - 1) // COLUMNS, (width + CHUNK - 1) // CHUNK
    strip, chunk = part // chunks, part % chunks
    left, right = tiles * chunk // chunks * COLUMNS, tiles * (chunk + 1) // chunks * COLUMNS
    return strip * STRIP, min(strip * STRIP + STRIP, height), left, right


@compiled
def _aligned(count):
    """Return an array of `count` float32 that starts at a cache line; unaligned vectors are slow."""
    array = np.empty(count + LINE, np.float32)
    start = -(array.ctypes.data // 4) % LINE
    return array[start : start + count]


@compiled
def _taps(column, width, side):
    """Return the range of taps along a row that meet the map from any of `COLUMNS` columns."""
    return max(0, side // 2 - column - COLUMNS + 1), min(side, width + side // 2 - column)


@compiled
def _weight_factors(weight, factors, block, groups, side, vector):
    """Write the factors of three rows of the kernel at a time, (PRODUCTS, groups, side, lanes)."""
    half = filled_row(np.float32(0.5), vector)
    row = side * len(vector)
    for group in range(groups):
        for within in range(0, row, len(vector)):
            at, start = group * row + within, (block * side + TAPS * group) * row + within
            w0 = load_row(weight, start, vector)
            w1 = load_row(weight, start + row, vector) if TAPS * group + 1 < side else zero_row(vector)
            w2 = (
                load_row(weight, start + 2 * row, vector)
                if TAPS * group + 2 < side
                else zero_row(vector)
            )
            outer = multiply(half, add(w0, w2))
            store_row(factors, at, w0)
            store_row(factors, groups * row + at, add_product(outer, half, w1))
            store_row(factors, 2 * groups * row + at, subtract(outer, multiply(half, w1)))
            store_row(factors, 3 * groups * row + at, w2)


@compiled
def _map_factors(x, factors, image, bounds, channel, span, sizes, vector):
    """Write the factors of the rows that a part of the output depends on, (rows, FACTORS, span).

    The fourth factor of a row is the first of the next row. Rows and columns that meet no tap are left
    out.
    """
    height, width, _, side = sizes
    top, bottom, left, right = bounds
    upper, before = top - side // 2, left - side // 2
    first, last = max(upper, 1 - PRODUCTS), min(bottom + side // 2 + TAPS, height + 1)
    for column in range(max(before, -COLUMNS), min(right + side // 2, width + COLUMNS)):
        r0 = _pixel(x, image, first, column, channel, sizes, vector)
        r1 = _pixel(x, image, first + 1, column, channel, sizes, vector)
        for y in range(first, last):
            r2 = _pixel(x, image, y + 2, column, channel, sizes, vector)
            at = (y - upper) * FACTORS * span + (column - before) * len(vector)
            store_row(factors, at, subtract(r0, r2))
            store_row(factors, at + span, add(r1, r2))
            store_row(factors, at + 2 * span, subtract(r2, r1))
            r0, r1 = r1, r2


@compiled
def _pixel(x, image, y, column, channel, sizes, vector):
    """Return some channels of a pixel; zero outside the map."""
    height, width, channels, _ = sizes
    if 0 <= y < height and 0 <= column < width:
        return load_row(x, ((image * height + y) * width + column) * channels + channel, vector)
    return zero_row(vector)


@compiled
def _write(out, sums, bias, image, top, left, right, channel, span, sizes, vector):
    """Write two rows of output from the sums of their products."""
    height, width, channels, _ = sizes
    shift = load_row(bias, channel, vector)
    for column in range(left, min(right, width)):
        at = (column - left) * len(vector)
        place = ((image * height + top) * width + column) * channels + channel
        m1, m2 = load_row(sums, span + at, vector), load_row(sums, 2 * span + at, vector)
        store_row(out, place, add(shift, add(load_row(sums, at, vector), add(m1, m2))))
        if top + 1 < height:
            lower = subtract(subtract(m1, m2), load_row(sums, 3 * span + at, vector))
            store_row(out, place + width * channels, add(shift, lower))


@compiled
def _weight_sums(x, grad, sums, batch, sizes, vector, tile, begin, end):
    """Compute sums `begin` to `end`: some channels of the weight gradient over a share of all parts."""
    height, width, _, side = sizes
    lanes, groups = len(vector), (side + TAPS - 1) // TAPS
    span, parts = (CHUNK + COLUMNS + side) * lanes, _parts(sizes)
    maps, grads = _aligned((STRIP + side + TAPS) * FACTORS * span), _aligned(PRODUCTS * span)
    for item in range(begin, end):
        channel, number, total = item // SUMS * lanes, item % SUMS, sums[item]
        for part in range(batch * parts * number // SUMS, batch * parts * (number + 1) // SUMS):
            image, bounds = part // parts, _bounds(part % parts, sizes)
            top, bottom, left, right = bounds
            _map_factors(x, maps, image, bounds, channel, span, sizes, vector)
            for y in range(top, bottom, ROWS):
                _grad_factors(grad, grads, image, y, left, right, channel, span, sizes, vector)
                for group in range(groups):
                    upper = y + TAPS * group - side // 2
                    if upper <= -PRODUCTS or upper >= height:
                        continue
                    for product in range(PRODUCTS):
                        row = (product * groups + group) * side * lanes
                        source = ((y - top + TAPS * group) * FACTORS + product) * span
                        for column in range(left, right, COLUMNS):
                            first, last = _taps(column, width, side)
                            within = (column - left) * lanes
                            other = load_row(grads, product * span + within, tile)
                            for tap in range(first, last):
                                near = load_row(maps, source + within + tap * lanes, tile)
                                so_far = load_row(total, row + tap * lanes, vector)
                                store_row(total, row + tap * lanes, add_products(so_far, other, near))


@compiled
def _grad_factors(grad, factors, image, top, left, right, channel, span, sizes, vector):
    """Write the factors of two rows of the output gradient, (PRODUCTS, right - left, lanes)."""
    for column in range(left, right):
        at = (column - left) * len(vector)
        g0 = _pixel(grad, image, top, column, channel, sizes, vector)
        g1 = _pixel(grad, image, top + 1, column, channel, sizes, vector)
        store_row(factors, at, g0)
        store_row(factors, span + at, add(g0, g1))
        store_row(factors, 2 * span + at, subtract(g0, g1))
        store_row(factors, 3 * span + at, subtract(zero_row(vector), g1))
