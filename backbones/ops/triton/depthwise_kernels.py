"""Triton kernels of large depthwise convolutions, launched by `backbones.ops.triton.depthwise`.

A tile is `COLUMNS` adjacent pixels of a row and `BLOCK` channels. Kernels are (K, K, C), as `taps` here.
"""

# ruff: noqa: N803 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl

# Sizes of maps and kernels differ between stages and images; compile only once for all of them.
_RUNTIME_SIZES = ('height', 'width', 'side')


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def forward(
    x,
    taps,
    bias,
    out,
    height,
    width,
    channels,
    side,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Write a tile of four rows of `out`. All tensors are contiguous."""
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    tile = tl.program_id(0)
    chunks, quads = tl.cdiv(width, COLUMNS), tl.cdiv(height, 4)
    image = (tile // (chunks * quads)).to(index)
    top, left = tile // chunks % quads * 4, tile % chunks * COLUMNS
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    exists, column = channel < channels, left + tl.arange(0, COLUMNS)[:, None]
    first = image * height * width
    reach = side // 2

    sum0 = tl.zeros([COLUMNS, BLOCK], tl.float32)
    if bias is not None:
        sum0 += tl.load(bias + channel, exists, 0)
    sum1, sum2, sum3 = sum0, sum0, sum0
    # Taps of which some column of the tile is in the map.
    begin, end = tl.maximum(0, reach - left - COLUMNS + 1), tl.minimum(side, width + reach - left)
    for y in range(tl.maximum(0, top - reach), tl.minimum(height, top + 4 + reach)):
        down = y - top + reach
        for across in range(begin, end):
            near = column + across - reach
            pixel = _tile(x, first + y * width, near, width, channel, channels, exists)
            sum0 += pixel * _tap(taps, down, across, side, channel, channels, exists)
            sum1 += pixel * _tap(taps, down - 1, across, side, channel, channels, exists)
            sum2 += pixel * _tap(taps, down - 2, across, side, channel, channels, exists)
            sum3 += pixel * _tap(taps, down - 3, across, side, channel, channels, exists)
    inside = (column < width) & exists
    at = out + ((first + top * width + column) * channels + channel)
    line = width * channels
    tl.store(at, sum0, inside)
    tl.store(at + line, sum1, inside & (top + 1 < height))
    tl.store(at + 2 * line, sum2, inside & (top + 2 < height))
    tl.store(at + 3 * line, sum3, inside & (top + 3 < height))


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def weight_gradient(
    x,
    grad,
    sums,
    height,
    width,
    channels,
    side,
    STRIP: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Write one column of four taps of `sums`, (images * strips, K, K, C), each over a strip of rows."""
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    across, down = tl.program_id(0) % side, tl.program_id(0) // side * 4
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    exists = channel < channels
    strips = tl.cdiv(height, STRIP)
    part = tl.program_id(2).to(index)
    first, top = part // strips * height * width, (part % strips * STRIP).to(tl.int32)
    bottom = tl.minimum(height, top + STRIP)
    reach = side // 2

    sum0 = tl.zeros([COLUMNS, BLOCK], tl.float32)
    sum1, sum2, sum3 = sum0, sum0, sum0
    for left in range(0, width, COLUMNS):
        column = left + tl.arange(0, COLUMNS)[:, None]
        shifted = column + across - reach
        # Three rows of the map that the row before has read.
        start = top + down - reach
        x0 = _row(x, first, start, shifted, height, width, channel, channels, exists)
        x1 = _row(x, first, start + 1, shifted, height, width, channel, channels, exists)
        x2 = _row(x, first, start + 2, shifted, height, width, channel, channels, exists)
        for y in range(top, bottom):
            x3 = _row(x, first, y + down - reach + 3, shifted, height, width, channel, channels, exists)
            slope = _tile(grad, first + y * width, column, width, channel, channels, exists)
            sum0 += slope * x0
            sum1 += slope * x1
            sum2 += slope * x2
            sum3 += slope * x3
            x0, x1, x2 = x1, x2, x3
    _write(sums, part, down, across, side, sum0, channel, channels, exists)
    _write(sums, part, down + 1, across, side, sum1, channel, channels, exists)
    _write(sums, part, down + 2, across, side, sum2, channel, channels, exists)
    _write(sums, part, down + 3, across, side, sum3, channel, channels, exists)


@triton.jit
def _tile(x, row, column, width, channel, channels, exists):
    """Return a tile, (COLUMNS, BLOCK); zero outside the map. `row` is the index of its first pixel."""
    inside = (column >= 0) & (column < width) & exists
    return tl.load(x + ((row + column) * channels + channel), inside, 0).to(tl.float32)


@triton.jit
def _row(x, first, y, column, height, width, channel, channels, exists):
    """Return `_tile` of row `y` of the image with first pixel `first`; zero outside the map."""
    inside = exists & (y >= 0) & (y < height)
    return _tile(x, first + y * width, column, width, channel, channels, inside)


@triton.jit
def _tap(taps, down, across, side, channel, channels, exists):
    """Return a tap for each channel, (1, BLOCK); zero above and below the kernel."""
    inside = exists & (down >= 0) & (down < side)
    return tl.load(taps + ((down * side + across) * channels + channel), inside, 0)


@triton.jit
def _write(sums, part, down, across, side, products, channel, channels, exists):
    """Write the gradient of a tap, summed over the columns of `products`."""
    at = sums + (((part * side + down) * side + across) * channels + channel)
    tl.store(at, tl.sum(products, axis=0)[None, :], exists & (down < side))
