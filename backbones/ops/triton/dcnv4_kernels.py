"""Triton kernels of DCNv4 sampling, launched by `backbones.ops.triton.dcnv4`.

The sampling itself is in `sampling_kernels`. A row, one head of one token, has 2 K offsets and then K
weights, adjacent among the `point_channels` numbers of its token in `offset_mask`.

Points are unrolled as in `dcnv3_kernels`.
"""

# ruff: noqa: N803, N806 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl

from backbones.ops.triton.sampling_kernels import (
    add_sample,
    cells,
    channels,
    differentiate,
    locate,
    read,
    scatter_sample,
    write,
)

# Sizes of maps and number of heads differ between stages and images; compile only once for all of them.
_RUNTIME_SIZES = ('point_channels', 'height', 'width', 'heads', 'head_group', 'rows')


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def forward(
    value,
    offset_mask,
    out,
    point_channels,
    offset_scale,
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
    """Write `out`. All tensors are contiguous; see `locate` for the sizes."""
    POINTS: tl.constexpr = KERNEL_SIZE * KERNEL_SIZE
    RUN: tl.constexpr = 3 if KERNEL_SIZE % 3 == 0 else 1
    token, head, first, x, y, exists = locate(height, width, heads, head_group, rows, BLOCK, WIDE_INDEX)
    first *= DIM
    first_number = token * point_channels + head * (3 * POINTS)
    channel = tl.arange(0, PADDED_DIM)[None, :]
    summed = tl.zeros([BLOCK, PADDED_DIM], tl.float32)
    for run in range(0, POINTS, RUN):
        for step in tl.static_range(RUN):
            number = first_number + run + step
            weight = read(offset_mask + 2 * POINTS + number, exists)
            offset_x = read(offset_mask + number + run + step, exists)
            offset_y = read(offset_mask + number + run + step + 1, exists)
            left, upper, to_right, to_lower = cells(
                run + step, offset_x, offset_y, x, y, width, height, offset_scale, KERNEL_SIZE
            )
            summed = add_sample(
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
                DIM,
            )
    place, mask = channels((token * heads + head) * DIM, exists, channel, DIM)
    tl.store(out + place, summed, mask)


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def backward(
    grad_out,
    value,
    offset_mask,
    grad_value,
    grad_offset_mask,
    scale,
    point_channels,
    offset_scale,
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
    """Add to `grad_value`; write `grad_offset_mask` except for its padding.

    With a `scale`, a pointer to one float32, `grad_value` is int64 in units of 1 / scale.
    """
    POINTS: tl.constexpr = KERNEL_SIZE * KERNEL_SIZE
    RUN: tl.constexpr = 3 if KERNEL_SIZE % 3 == 0 else 1
    token, head, first, x, y, exists = locate(height, width, heads, head_group, rows, BLOCK, WIDE_INDEX)
    first *= DIM
    first_number = token * point_channels + head * (3 * POINTS)
    channel = tl.arange(0, PADDED_DIM)[None, :]
    place, mask = channels((token * heads + head) * DIM, exists, channel, DIM)
    grad = read(grad_out + place, mask)
    scattered = grad
    if scale is not None:
        scattered = grad * tl.load(scale)
    # Gradients of weights and offsets are collected point by point and written together, so that
    # adjacent threads write to adjacent addresses.
    column = tl.arange(0, PADDED_POINTS)[None, :]
    grad_weights = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    grad_x = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    grad_y = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    for run in range(0, POINTS, RUN):
        for step in tl.static_range(RUN):
            number = first_number + run + step
            weight = read(offset_mask + 2 * POINTS + number, exists)
            offset_x = read(offset_mask + number + run + step, exists)
            offset_y = read(offset_mask + number + run + step + 1, exists)
            left, upper, to_right, to_lower = cells(
                run + step, offset_x, offset_y, x, y, width, height, offset_scale, KERNEL_SIZE
            )
            sample, slope_x, slope_y = differentiate(
                value, grad, first, channel, left, upper, to_right, to_lower, width, height, heads, DIM
            )
            slope = offset_scale * weight
            grad_weights = tl.where(column == run + step, sample[:, None], grad_weights)
            grad_x = tl.where(column == run + step, (slope * slope_x)[:, None], grad_x)
            grad_y = tl.where(column == run + step, (slope * slope_y)[:, None], grad_y)
            # Read all four corners first; otherwise each addition would delay the next read.
            scatter_sample(
                grad_value,
                scattered,
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
                DIM,
            )
    grad_offsets = tl.reshape(tl.join(grad_x, grad_y), [BLOCK, 2 * PADDED_POINTS])
    write(grad_offset_mask, first_number, exists, grad_offsets, 2 * POINTS, 2 * PADDED_POINTS)
    write(grad_offset_mask, first_number + 2 * POINTS, exists, grad_weights, POINTS, PADDED_POINTS)
