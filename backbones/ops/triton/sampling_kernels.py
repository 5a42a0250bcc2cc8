"""Parts of the Triton kernels of deformable convolutions: bilinear samples around every token.

A *row* is one head of one token: D adjacent channels in `value`. A program processes `BLOCK` rows.
Values for each point are computed in registers: inputs and output are moved through memory once, and the
corners are read through the caches.
"""

# ruff: noqa: N803 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl


@triton.jit
def add_sample(
    summed,
    value,
    weight,
    first,
    channel,
    left,
    upper,
    to_right,
    to_lower,
    width,
    height,
    heads,
    DIM: tl.constexpr,
):
    """Return `summed` plus the weighted sample at a position, (BLOCK, PADDED_DIM)."""
    for lower in tl.static_range(2):
        weight_y = weight * share(to_lower, lower)
        for right in tl.static_range(2):
            column, line = left + right, upper + lower
            place, mask = corner(first, channel, column, line, width, height, heads, DIM)
            weight_xy = weight_y * share(to_right, right)
            summed += weight_xy[:, None] * read(value + place, mask)
    return summed


@triton.jit
def scatter_sample(
    grad_value,
    grad,
    weight,
    first,
    channel,
    left,
    upper,
    to_right,
    to_lower,
    width,
    height,
    heads,
    DIM: tl.constexpr,
):
    """Add the gradient of a weighted sample to `grad_value`, at the corners around its position."""
    for lower in tl.static_range(2):
        weight_y = weight * share(to_lower, lower)
        for right in tl.static_range(2):
            column, line = left + right, upper + lower
            place, mask = corner(first, channel, column, line, width, height, heads, DIM)
            added = (weight_y * share(to_right, right))[:, None] * grad
            added = added.to(grad_value.dtype.element_ty)
            tl.atomic_add(grad_value + place, added, mask, sem='relaxed')


@triton.jit
def differentiate(
    value, grad, first, channel, left, upper, to_right, to_lower, width, height, heads, DIM: tl.constexpr
):
    """Return the inner product of `grad` with the sample at a position, and its x and y derivatives."""
    sample = tl.zeros_like(to_right)
    slope_x = tl.zeros_like(to_right)
    slope_y = tl.zeros_like(to_right)
    for lower in tl.static_range(2):
        share_y = share(to_lower, lower)
        for right in tl.static_range(2):
            share_x = share(to_right, right)
            column, line = left + right, upper + lower
            place, mask = corner(first, channel, column, line, width, height, heads, DIM)
            product = tl.sum(grad * read(value + place, mask), axis=1)
            sample += share_x * share_y * product
            slope_x += (2 * right - 1) * share_y * product
            slope_y += (2 * lower - 1) * share_x * product
    return sample, slope_x, slope_y


@triton.jit
def locate(height, width, heads, head_group, rows, BLOCK: tl.constexpr, WIDE_INDEX: tl.constexpr):
    """Locate the rows of this program.

    Heads are processed in groups of `head_group`, a divisor of `heads`. Each group has its own programs
    for its `rows` rows, which are tokens times `head_group`.

    Returns:
        For each row, (BLOCK,): its token; its head; the index of the first row of its image and head;
        its token's x and y in float32; whether it exists. A row that does not exist is so far outside
        that none of its points is in the map.
    """
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    groups = heads // head_group
    program = tl.program_id(0).to(index)
    within_group = program // groups * BLOCK + tl.arange(0, BLOCK)
    exists = within_group < rows
    token = within_group // head_group
    head = program % groups * head_group + within_group % head_group
    x = tl.where(exists, (token % width).to(tl.float32), float('-inf'))
    line = token // width
    first = line // height * height * width * heads + head
    return token, head, first, x, (line % height).to(tl.float32), exists


@triton.jit
def read(pointer, mask):
    return tl.load(pointer, mask, 0).to(tl.float32)


@triton.jit
def write(pointer, first, exists, numbers, COUNT: tl.constexpr, PADDED_COUNT: tl.constexpr):
    """Write the first `COUNT` of `numbers`, (BLOCK, PADDED_COUNT), for each row, from index `first`."""
    column = tl.arange(0, PADDED_COUNT)[None, :]
    tl.store(pointer + first[:, None] + column, numbers, exists[:, None] & (column < COUNT))


@triton.jit
def cells(k, offset_x, offset_y, x, y, width, height, scale, KERNEL_SIZE: tl.constexpr):
    """Return the `cell` along x and y of point `k` of the tokens at x, y.

    `scale` stretches the undeformed grid and the offsets.
    """
    x += scale * ((k // KERNEL_SIZE - KERNEL_SIZE // 2) + offset_x)
    y += scale * ((k % KERNEL_SIZE - KERNEL_SIZE // 2) + offset_y)
    left, to_right = cell(x, width)
    upper, to_lower = cell(y, height)
    return left, upper, to_right, to_lower


@triton.jit
def cell(position, size):
    """Return the pixel at or before a position along one axis, and the distance between them.

    A position from -1 to `size` is next to a pixel of the map. Other positions and NaN are replaced by
    -2, which has neither pixel in the map, since they might not fit in an integer.
    """
    position = tl.where((position >= -1) & (position < size), position, -2.0)
    before = tl.floor(position)
    return before.to(tl.int32), position - before


@triton.jit
def share(fraction, beyond: tl.constexpr):
    """Return the weight of the pixel before a position, or of the next pixel if `beyond`."""
    return fraction if beyond else 1 - fraction


@triton.jit
def corner(first, channel, x, y, width, height, heads, DIM: tl.constexpr):
    """Return `channels` of a pixel, masked outside the map; `first` is for the image's first pixel."""
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return channels(first + (y.to(first.dtype) * width + x) * heads * DIM, inside, channel, DIM)


@triton.jit
def channels(first, exists, channel, DIM: tl.constexpr):
    """Return the indices of all channels from each `first`, (BLOCK, PADDED_DIM), and their mask.

    The mask depends on channels only if some are padding, so that loads stay wide otherwise.
    """
    mask = exists[:, None]
    if channel.shape[1] != DIM:
        mask = mask & (channel < DIM)
    return first[:, None] + channel, mask
