"""Triton kernels of DCNv3 sampling, launched by `backbones.ops.triton.dcnv3`.

A *row* is one head of one token: D adjacent channels in `value`, K logits and 2 K offsets. A program
processes `BLOCK` rows. Values for each point are computed in registers: inputs and output are moved
through memory once, and the corners are read through the caches.

Points are unrolled in runs of three if their number is a multiple of three. This keeps enough loads in
flight; longer runs would not fit in the registers and take several times as long to compile.
"""

# ruff: noqa: N803, N806 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl

# Sizes of maps and number of heads differ between stages and images; compile only once for all of them.
_RUNTIME_SIZES = ('height', 'width', 'heads', 'head_group', 'rows')


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def forward(
    value,
    offsets,
    logits,
    out,
    height,
    width,
    heads,
    head_group,
    rows,
    KERNEL_SIZE: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Write `out`. All tensors are contiguous; see `_locate` for the sizes."""
    POINTS: tl.constexpr = KERNEL_SIZE * KERNEL_SIZE
    RUN: tl.constexpr = 3 if KERNEL_SIZE % 3 == 0 else 1
    row, image, x, y, exists = _locate(height, width, heads, head_group, rows, BLOCK, WIDE_INDEX)
    first = (image * height * width * heads + row % heads) * DIM
    channel = tl.arange(0, PADDED_DIM)[None, :]
    peak = _largest(logits, row, exists, POINTS)
    total = tl.zeros_like(peak)
    summed = tl.zeros([BLOCK, PADDED_DIM], tl.float32)
    for run in range(0, POINTS, RUN):
        for step in tl.static_range(RUN):
            score, left, upper, to_right, to_lower = _point(
                offsets, logits, row, run + step, x, y, exists, width, height, KERNEL_SIZE
            )
            weight = tl.exp(score - peak)
            total += weight
            for lower in tl.static_range(2):
                weight_y = weight * _share(to_lower, lower)
                for right in tl.static_range(2):
                    column, line = left + right, upper + lower
                    place, mask = _corner(first, channel, column, line, width, height, heads, DIM)
                    share = weight_y * _share(to_right, right)
                    summed += share[:, None] * _read(value + place, mask)
    place, mask = _channels(row * DIM, exists, channel, DIM)
    tl.store(out + place, summed / total[:, None], mask)


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def backward(
    grad_out,
    value,
    offsets,
    logits,
    grad_value,
    grad_offsets,
    grad_logits,
    scale,
    height,
    width,
    heads,
    head_group,
    rows,
    KERNEL_SIZE: tl.constexpr,
    PADDED_POINTS: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Add to `grad_value`; write `grad_offsets` and `grad_logits`.

    With a `scale`, a pointer to one float32, `grad_value` is int64 in units of 1 / scale.
    """
    POINTS: tl.constexpr = KERNEL_SIZE * KERNEL_SIZE
    RUN: tl.constexpr = 3 if KERNEL_SIZE % 3 == 0 else 1
    row, image, x, y, exists = _locate(height, width, heads, head_group, rows, BLOCK, WIDE_INDEX)
    first = (image * height * width * heads + row % heads) * DIM
    channel = tl.arange(0, PADDED_DIM)[None, :]
    peak = _largest(logits, row, exists, POINTS)
    total = tl.zeros_like(peak)
    for k in tl.static_range(POINTS):
        total += tl.exp(_read(logits + row * POINTS + k, exists) - peak)
    place, mask = _channels(row * DIM, exists, channel, DIM)
    # Divide once here, so that exponentials can be used as weights below.
    grad = _read(grad_out + place, mask) / total[:, None]
    scattered = grad
    if scale is not None:
        scattered = grad * tl.load(scale)
    # Gradients of weights and positions are collected point by point and written together, so that
    # adjacent threads write to adjacent addresses.
    point = tl.arange(0, PADDED_POINTS)[None, :]
    grad_weights = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    grad_x = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    grad_y = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    for run in range(0, POINTS, RUN):
        for step in tl.static_range(RUN):
            score, left, upper, to_right, to_lower = _point(
                offsets, logits, row, run + step, x, y, exists, width, height, KERNEL_SIZE
            )
            weight = tl.exp(score - peak)
            sample, slope_x, slope_y = _differentiate(
                value, grad, first, channel, left, upper, to_right, to_lower, width, height, heads, DIM
            )
            grad_weights = tl.where(point == run + step, sample[:, None], grad_weights)
            grad_x = tl.where(point == run + step, (weight * slope_x)[:, None], grad_x)
            grad_y = tl.where(point == run + step, (weight * slope_y)[:, None], grad_y)
            # Read all four corners first; otherwise each addition would delay the next read.
            for lower in tl.static_range(2):
                weight_y = weight * _share(to_lower, lower)
                for right in tl.static_range(2):
                    column, line = left + right, upper + lower
                    place, mask = _corner(first, channel, column, line, width, height, heads, DIM)
                    added = (weight_y * _share(to_right, right))[:, None] * scattered
                    added = added.to(grad_value.dtype.element_ty)
                    tl.atomic_add(grad_value + place, added, mask, sem='relaxed')
    weights = _exponentials(logits, row, exists, POINTS, PADDED_POINTS)
    mean = tl.sum(weights * grad_weights, axis=1) / tl.sum(weights, axis=1)
    grad_scores = weights * (grad_weights - mean[:, None])
    _write(grad_logits, row, exists, grad_scores, POINTS, PADDED_POINTS)
    grad_positions = tl.reshape(tl.join(grad_x, grad_y), [BLOCK, 2 * PADDED_POINTS])
    _write(grad_offsets, row, exists, grad_positions, 2 * POINTS, 2 * PADDED_POINTS)


@triton.jit
def _differentiate(
    value, grad, first, channel, left, upper, to_right, to_lower, width, height, heads, DIM: tl.constexpr
):
    """Return the inner product of `grad` with the sample at a position, and its x and y derivatives."""
    sample = tl.zeros_like(to_right)
    slope_x = tl.zeros_like(to_right)
    slope_y = tl.zeros_like(to_right)
    for lower in tl.static_range(2):
        share_y = _share(to_lower, lower)
        for right in tl.static_range(2):
            share_x = _share(to_right, right)
            column, line = left + right, upper + lower
            place, mask = _corner(first, channel, column, line, width, height, heads, DIM)
            product = tl.sum(grad * _read(value + place, mask), axis=1)
            sample += share_x * share_y * product
            slope_x += (2 * right - 1) * share_y * product
            slope_y += (2 * lower - 1) * share_x * product
    return sample, slope_x, slope_y


@triton.jit
def _locate(height, width, heads, head_group, rows, BLOCK: tl.constexpr, WIDE_INDEX: tl.constexpr):
    """Locate the rows of this program.

    Heads are processed in groups of `head_group`, a divisor of `heads`. Each group has its own programs
    for its `rows` rows, which are tokens times `head_group`.

    Returns:
        For each row, (BLOCK,): its index in memory; its image; its token's x and y in float32; whether
        it exists. A row that does not exist is so far outside that none of its points is in the map.
    """
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    groups = heads // head_group
    program = tl.program_id(0).to(index)
    within_group = program // groups * BLOCK + tl.arange(0, BLOCK)
    exists = within_group < rows
    token = within_group // head_group
    row = token * heads + program % groups * head_group + within_group % head_group
    x = tl.where(exists, (token % width).to(tl.float32), float('-inf'))
    line = token // width
    return row, line // height, x, (line % height).to(tl.float32), exists


@triton.jit
def _read(pointer, mask):
    return tl.load(pointer, mask, 0).to(tl.float32)


@triton.jit
def _write(pointer, row, exists, numbers, COUNT: tl.constexpr, PADDED_COUNT: tl.constexpr):
    """Write the first `COUNT` of `numbers`, (BLOCK, PADDED_COUNT), for each row."""
    column = tl.arange(0, PADDED_COUNT)[None, :]
    tl.store(pointer + (row * COUNT)[:, None] + column, numbers, exists[:, None] & (column < COUNT))


@triton.jit
def _largest(logits, row, exists, POINTS: tl.constexpr):
    """Return the largest logit of each row."""
    largest = _read(logits + row * POINTS, exists)
    for k in tl.static_range(1, POINTS):
        largest = tl.maximum(largest, _read(logits + row * POINTS + k, exists))
    return largest


@triton.jit
def _exponentials(logits, row, exists, POINTS: tl.constexpr, PADDED_POINTS: tl.constexpr):
    """Return exp(logit - largest logit of the row), (BLOCK, PADDED_POINTS)."""
    point = tl.arange(0, PADDED_POINTS)[None, :]
    mask = exists[:, None] & (point < POINTS)
    scores = tl.load(logits + (row * POINTS)[:, None] + point, mask, float('-inf')).to(tl.float32)
    return tl.exp(scores - tl.max(scores, axis=1)[:, None])


@triton.jit
def _point(offsets, logits, row, k, x, y, exists, width, height, KERNEL_SIZE: tl.constexpr):
    """Return the logit of point `k` for each row, and the `_cell` of its position along x and y."""
    number = row * (KERNEL_SIZE * KERNEL_SIZE) + k
    score = _read(logits + number, exists)
    x += (k // KERNEL_SIZE - KERNEL_SIZE // 2) + _read(offsets + 2 * number, exists)
    y += (k % KERNEL_SIZE - KERNEL_SIZE // 2) + _read(offsets + 2 * number + 1, exists)
    left, to_right = _cell(x, width)
    upper, to_lower = _cell(y, height)
    return score, left, upper, to_right, to_lower


@triton.jit
def _cell(position, size):
    """Return the pixel at or before a position along one axis, and the distance between them.

    A position from -1 to `size` is next to a pixel of the map. Other positions and NaN are replaced by
    -2, which has neither pixel in the map, since they might not fit in an integer.
    """
    position = tl.where((position >= -1) & (position < size), position, -2.0)
    before = tl.floor(position)
    return before.to(tl.int32), position - before


@triton.jit
def _share(fraction, beyond: tl.constexpr):
    """Return the weight of the pixel before a position, or of the next pixel if `beyond`."""
    return fraction if beyond else 1 - fraction


@triton.jit
def _corner(first, channel, x, y, width, height, heads, DIM: tl.constexpr):
    """Return `_channels` of a pixel, masked outside the map; `first` is for the image's first pixel."""
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return _channels(first + (y.to(first.dtype) * width + x) * heads * DIM, inside, channel, DIM)


@triton.jit
def _channels(first, exists, channel, DIM: tl.constexpr):
    """Return the indices of all channels from each `first`, (BLOCK, PADDED_DIM), and their mask.

    The mask depends on channels only if some are padding, so that loads stay wide otherwise.
    """
    mask = exists[:, None]
    if channel.shape[1] != DIM:
        mask = mask & (channel < DIM)
    return first[:, None] + channel, mask
