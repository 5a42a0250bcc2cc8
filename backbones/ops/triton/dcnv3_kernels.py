"""Triton kernels of DCNv3 sampling, launched by `backbones.ops.triton.dcnv3`.

The sampling itself is in `sampling_kernels`; these add the softmax of the weights. A row, one head of
one token, has K logits and 2 K offsets.

Points are unrolled in runs of three if their number is a multiple of three. This keeps enough loads in
flight; longer runs would not fit in the registers and take several times as long to compile.
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
    """Write `out`. All tensors are contiguous; see `locate` for the sizes."""
    POINTS: tl.constexpr = KERNEL_SIZE * KERNEL_SIZE
    RUN: tl.constexpr = 3 if KERNEL_SIZE % 3 == 0 else 1
    token, head, first, x, y, exists = locate(height, width, heads, head_group, rows, BLOCK, WIDE_INDEX)
    row, first = token * heads + head, first * DIM
    channel = tl.arange(0, PADDED_DIM)[None, :]
    peak = _largest(logits, row, exists, POINTS)
    total = tl.zeros_like(peak)
    summed = tl.zeros([BLOCK, PADDED_DIM], tl.float32)
    for run in range(0, POINTS, RUN):
        for step in tl.static_range(RUN):
            number = row * POINTS + run + step
            score = read(logits + number, exists)
            offset_x = read(offsets + 2 * number, exists)
            offset_y = read(offsets + 2 * number + 1, exists)
            left, upper, to_right, to_lower = cells(
                run + step, offset_x, offset_y, x, y, width, height, 1.0, KERNEL_SIZE
            )
            weight = tl.exp(score - peak)
            total += weight
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
    place, mask = channels(row * DIM, exists, channel, DIM)
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
    token, head, first, x, y, exists = locate(height, width, heads, head_group, rows, BLOCK, WIDE_INDEX)
    row, first = token * heads + head, first * DIM
    channel = tl.arange(0, PADDED_DIM)[None, :]
    peak = _largest(logits, row, exists, POINTS)
    total = tl.zeros_like(peak)
    for k in tl.static_range(POINTS):
        total += tl.exp(read(logits + row * POINTS + k, exists) - peak)
    place, mask = channels(row * DIM, exists, channel, DIM)
    # Divide once here, so that exponentials can be used as weights below.
    grad = read(grad_out + place, mask) / total[:, None]
    scattered = grad
    if scale is not None:
        scattered = grad * tl.load(scale)
    # Gradients of weights and positions are collected point by point and written together, so that
    # adjacent threads write to adjacent addresses.
    column = tl.arange(0, PADDED_POINTS)[None, :]
    grad_weights = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    grad_x = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    grad_y = tl.zeros([BLOCK, PADDED_POINTS], tl.float32)
    for run in range(0, POINTS, RUN):
        for step in tl.static_range(RUN):
            number = row * POINTS + run + step
            score = read(logits + number, exists)
            offset_x = read(offsets + 2 * number, exists)
            offset_y = read(offsets + 2 * number + 1, exists)
            left, upper, to_right, to_lower = cells(
                run + step, offset_x, offset_y, x, y, width, height, 1.0, KERNEL_SIZE
            )
            weight = tl.exp(score - peak)
            sample, slope_x, slope_y = differentiate(
                value, grad, first, channel, left, upper, to_right, to_lower, width, height, heads, DIM
            )
            grad_weights = tl.where(column == run + step, sample[:, None], grad_weights)
            grad_x = tl.where(column == run + step, (weight * slope_x)[:, None], grad_x)
            grad_y = tl.where(column == run + step, (weight * slope_y)[:, None], grad_y)
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
    weights = _exponentials(logits, row, exists, POINTS, PADDED_POINTS)
    mean = tl.sum(weights * grad_weights, axis=1) / tl.sum(weights, axis=1)
    grad_scores = weights * (grad_weights - mean[:, None])
    write(grad_logits, row * POINTS, exists, grad_scores, POINTS, PADDED_POINTS)
    grad_positions = tl.reshape(tl.join(grad_x, grad_y), [BLOCK, 2 * PADDED_POINTS])
    write(grad_offsets, row * (2 * POINTS), exists, grad_positions, 2 * POINTS, 2 * PADDED_POINTS)


@triton.jit
def _largest(logits, row, exists, POINTS: tl.constexpr):
    """Return the largest logit of each row."""
    largest = read(logits + row * POINTS, exists)
    for k in tl.static_range(1, POINTS):
        largest = tl.maximum(largest, read(logits + row * POINTS + k, exists))
    return largest


@triton.jit
def _exponentials(logits, row, exists, POINTS: tl.constexpr, PADDED_POINTS: tl.constexpr):
    """Return exp(logit - largest logit of the row), (BLOCK, PADDED_POINTS)."""
    point = tl.arange(0, PADDED_POINTS)[None, :]
    mask = exists[:, None] & (point < POINTS)
    scores = tl.load(logits + (row * POINTS)[:, None] + point, mask, float('-inf')).to(tl.float32)
    return tl.exp(scores - tl.max(scores, axis=1)[:, None])
