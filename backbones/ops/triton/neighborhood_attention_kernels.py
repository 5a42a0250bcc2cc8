"""Triton kernels of neighborhood attention, launched by `backbones.ops.triton.neighborhood_attention`.

Tokens with the same remainders modulo the dilation form a map of their own, where neighborhoods are
windows of adjacent tokens. A program processes a square of `SIDE` x `SIDE` tokens of one such map, of
one head. It reads the tokens that the windows of this square cover in blocks of `LINES` rows and
`COLUMNS` columns, computes all products of the square with a block on the tensor cores, and masks those
of tokens that are not neighbors.
"""

# ruff: noqa: N803, N806 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl

# Sizes of maps differ between stages and images; compile only once for all of them.
_RUNTIME_SIZES = ('height', 'width', 'heads', 'dilation', 'squares_down', 'squares_across')
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def forward(
    q,
    k,
    v,
    rpb,
    out,
    log_sums,
    token_stride,
    head_stride,
    height,
    width,
    heads,
    dilation,
    squares_down,
    squares_across,
    scale,
    KERNEL_SIZE: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    SIDE: tl.constexpr,
    LINES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Write `out` and `log_sums`, both contiguous.

    Tokens of q, k and v are `token_stride` elements apart, their heads `head_stride`.
    """
    head, image, offset_y, offset_x, rows, columns, top, left = _locate(
        height, width, heads, dilation, squares_down, squares_across, SIDE, WIDE_INDEX
    )
    y, x, exists = _tokens(top, left, rows, columns, SIDE, SIDE)
    start_y, start_x = _windows(y, x, exists, rows, columns, KERNEL_SIZE)
    token = _index(image, y, x, offset_y, offset_x, height, width, dilation)
    channel = tl.arange(0, PADDED_DIM)
    place = token * token_stride + head * head_stride
    queries = _read(q + place[:, None] + channel[None, :], exists, channel, DIM)
    table = rpb + head * (2 * KERNEL_SIZE - 1) * (2 * KERNEL_SIZE - 1)
    peak = tl.full([SIDE * SIDE], float('-inf'), tl.float32)
    total = tl.zeros([SIDE * SIDE], tl.float32)
    summed = tl.zeros([SIDE * SIDE, PADDED_DIM], tl.float32)
    first_y, end_y = _covered(top, rows, SIDE, KERNEL_SIZE)
    first_x, end_x = _covered(left, columns, SIDE, KERNEL_SIZE)
    for block_y in range(first_y, end_y, LINES):
        for block_x in range(first_x, end_x, COLUMNS):
            key_y, key_x, key_exists = _tokens(block_y, block_x, end_y, end_x, LINES, COLUMNS)
            key = _index(image, key_y, key_x, offset_y, offset_x, height, width, dilation)
            key = (key * token_stride + head * head_stride)[:, None] + channel[None, :]
            keys = _read(k + key, key_exists, channel, DIM)
            near = _neighbors(start_y, start_x, key_y, key_x, KERNEL_SIZE)
            scores = scale * tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            scores += _bias(table, y, x, key_y, key_x, near, KERNEL_SIZE)
            scores = tl.where(near, scores * LOG2_E, float('-inf'))
            new_peak = tl.maximum(peak, tl.max(scores, axis=1))
            # Some queries have no neighbor in the first blocks.
            shift = tl.where(new_peak == float('-inf'), 0.0, new_peak)
            weights = tl.exp2(scores - shift[:, None])
            shrink = tl.exp2(peak - shift)
            total = total * shrink + tl.sum(weights, axis=1)
            values = _read(v + key, key_exists, channel, DIM)
            summed = summed * shrink[:, None]
            summed += tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
            peak = new_peak
    row = token * heads + head
    place = (row * DIM)[:, None] + channel[None, :]
    tl.store(out + place, summed / total[:, None], exists[:, None] & (channel < DIM)[None, :])
    tl.store(log_sums + row, peak / LOG2_E + tl.log(total), exists)


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def backward_queries(
    q,
    k,
    v,
    rpb,
    grad_out,
    log_sums,
    means,
    grad_q,
    tables,
    token_stride,
    head_stride,
    height,
    width,
    heads,
    dilation,
    squares_down,
    squares_across,
    scale,
    KERNEL_SIZE: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    SIDE: tl.constexpr,
    LINES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    TABLE_PRECISION: tl.constexpr,
    TABLE: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Write `grad_q`, and for each program its part of the gradient of `rpb` to `tables`.

    `tables` is (heads, programs per head, TABLE, TABLE); its first 2 * KERNEL_SIZE - 1 rows and columns
    are used. `means` are the inner products of `out` and `grad_out`, (B, H, W, heads).
    """
    head, image, offset_y, offset_x, rows, columns, top, left = _locate(
        height, width, heads, dilation, squares_down, squares_across, SIDE, WIDE_INDEX
    )
    y, x, exists = _tokens(top, left, rows, columns, SIDE, SIDE)
    start_y, start_x = _windows(y, x, exists, rows, columns, KERNEL_SIZE)
    token = _index(image, y, x, offset_y, offset_x, height, width, dilation)
    channel = tl.arange(0, PADDED_DIM)
    place = token * token_stride + head * head_stride
    queries = _read(q + place[:, None] + channel[None, :], exists, channel, DIM)
    row = token * heads + head
    place = (row * DIM)[:, None] + channel[None, :]
    grads = _read(grad_out + place, exists, channel, DIM)
    log_sum = tl.load(log_sums + row, exists, 0.0)
    mean = tl.load(means + row, exists, 0.0)
    table = rpb + head * (2 * KERNEL_SIZE - 1) * (2 * KERNEL_SIZE - 1)
    summed = tl.zeros([SIDE * SIDE, PADDED_DIM], tl.float32)
    grad_table = tl.zeros([TABLE, TABLE], tl.float32)
    first_y, end_y = _covered(top, rows, SIDE, KERNEL_SIZE)
    first_x, end_x = _covered(left, columns, SIDE, KERNEL_SIZE)
    for block_y in range(first_y, end_y, LINES):
        for block_x in range(first_x, end_x, COLUMNS):
            key_y, key_x, key_exists = _tokens(block_y, block_x, end_y, end_x, LINES, COLUMNS)
            key = _index(image, key_y, key_x, offset_y, offset_x, height, width, dilation)
            key = (key * token_stride + head * head_stride)[:, None] + channel[None, :]
            keys = _read(k + key, key_exists, channel, DIM)
            values = _read(v + key, key_exists, channel, DIM)
            near = _neighbors(start_y, start_x, key_y, key_x, KERNEL_SIZE)
            scores = scale * tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            scores += _bias(table, y, x, key_y, key_x, near, KERNEL_SIZE)
            weights = tl.where(near, tl.exp2((scores - log_sum[:, None]) * LOG2_E), 0.0)
            slopes = tl.dot(grads, tl.trans(values), input_precision=PRECISION)
            slopes = tl.where(near, weights * (slopes - mean[:, None]), 0.0)
            summed += tl.dot(slopes.to(keys.dtype), keys, input_precision=PRECISION)
            grad_table += _table_gradient(
                slopes,
                block_y - top + KERNEL_SIZE - 1,
                block_x - left + KERNEL_SIZE - 1,
                SIDE,
                LINES,
                COLUMNS,
                TABLE,
                TABLE_PRECISION,
            )
    tl.store(grad_q + place, summed * scale, exists[:, None] & (channel < DIM)[None, :])
    number = tl.arange(0, TABLE)
    programs = tl.num_programs(0) // heads
    program = (tl.program_id(0) % heads) * programs + tl.program_id(0) // heads
    at = program.to(tl.int64) * (TABLE * TABLE)
    tl.store(tables + at + number[:, None] * TABLE + number[None, :], grad_table)


@triton.jit(do_not_specialize=_RUNTIME_SIZES)
def backward_keys(
    q,
    k,
    v,
    rpb,
    grad_out,
    log_sums,
    means,
    grad_k,
    grad_v,
    token_stride,
    head_stride,
    height,
    width,
    heads,
    dilation,
    squares_down,
    squares_across,
    scale,
    KERNEL_SIZE: tl.constexpr,
    DIM: tl.constexpr,
    PADDED_DIM: tl.constexpr,
    SIDE: tl.constexpr,
    LINES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Write `grad_k` and `grad_v`, contiguous; here the square has keys, and the blocks have queries."""
    head, image, offset_y, offset_x, rows, columns, top, left = _locate(
        height, width, heads, dilation, squares_down, squares_across, SIDE, WIDE_INDEX
    )
    key_y, key_x, key_exists = _tokens(top, left, rows, columns, SIDE, SIDE)
    token = _index(image, key_y, key_x, offset_y, offset_x, height, width, dilation)
    channel = tl.arange(0, PADDED_DIM)
    place = (token * token_stride + head * head_stride)[:, None] + channel[None, :]
    keys = _read(k + place, key_exists, channel, DIM)
    values = _read(v + place, key_exists, channel, DIM)
    table = rpb + head * (2 * KERNEL_SIZE - 1) * (2 * KERNEL_SIZE - 1)
    key_sums = tl.zeros([SIDE * SIDE, PADDED_DIM], tl.float32)
    value_sums = tl.zeros([SIDE * SIDE, PADDED_DIM], tl.float32)
    first_y, end_y = _covering(top, rows, SIDE, KERNEL_SIZE)
    first_x, end_x = _covering(left, columns, SIDE, KERNEL_SIZE)
    for block_y in range(first_y, end_y, LINES):
        for block_x in range(first_x, end_x, COLUMNS):
            y, x, exists = _tokens(block_y, block_x, end_y, end_x, LINES, COLUMNS)
            start_y, start_x = _windows(y, x, exists, rows, columns, KERNEL_SIZE)
            query = _index(image, y, x, offset_y, offset_x, height, width, dilation)
            row = query * heads + head
            query = (query * token_stride + head * head_stride)[:, None] + channel[None, :]
            queries = _read(q + query, exists, channel, DIM)
            grads = _read(grad_out + (row * DIM)[:, None] + channel[None, :], exists, channel, DIM)
            log_sum = tl.load(log_sums + row, exists, 0.0)
            mean = tl.load(means + row, exists, 0.0)
            near = _neighbors(start_y, start_x, key_y, key_x, KERNEL_SIZE)
            bias = _bias(table, y, x, key_y, key_x, near, KERNEL_SIZE)
            # Keys before queries, so that no operand of the products below is turned.
            scores = scale * tl.dot(keys, tl.trans(queries), input_precision=PRECISION)
            scores += tl.trans(bias) - log_sum[None, :]
            near = tl.trans(near)
            weights = tl.where(near, tl.exp2(scores * LOG2_E), 0.0)
            slopes = tl.dot(values, tl.trans(grads), input_precision=PRECISION)
            slopes = tl.where(near, weights * (slopes - mean[None, :]), 0.0)
            value_sums += tl.dot(weights.to(grads.dtype), grads, input_precision=PRECISION)
            key_sums += tl.dot(slopes.to(queries.dtype), queries, input_precision=PRECISION)
    place = ((token * heads + head) * DIM)[:, None] + channel[None, :]
    mask = key_exists[:, None] & (channel < DIM)[None, :]
    tl.store(grad_k + place, key_sums * scale, mask)
    tl.store(grad_v + place, value_sums, mask)


@triton.jit
def _locate(
    height,
    width,
    heads,
    dilation,
    squares_down,
    squares_across,
    SIDE: tl.constexpr,
    WIDE_INDEX: tl.constexpr,
):
    """Locate the square of this program; heads are adjacent programs, since they share cache lines.

    Returns:
        The head, the image, the remainders of the map's rows and columns modulo the dilation, the size
        of this map, and the first row and column of the square. The square may be outside the map.
    """
    program = tl.program_id(0)
    head, program = program % heads, program // heads
    left, program = program % squares_across * SIDE, program // squares_across
    top, program = program % squares_down * SIDE, program // squares_down
    offset_x, program = program % dilation, program // dilation
    offset_y, image = program % dilation, program // dilation
    rows = (height - offset_y + dilation - 1) // dilation
    columns = (width - offset_x + dilation - 1) // dilation
    if WIDE_INDEX:
        head, image = head.to(tl.int64), image.to(tl.int64)
    return head, image, offset_y, offset_x, rows, columns, top, left


@triton.jit
def _tokens(top, left, bottom, right, LINES: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the row and column of each token of a block, and whether it is before bottom and right."""
    number = tl.arange(0, LINES * COLUMNS)
    y, x = top + number // COLUMNS, left + number % COLUMNS
    return y, x, (y < bottom) & (x < right)


@triton.jit
def _index(image, y, x, offset_y, offset_x, height, width, dilation):
    """Return the index of tokens among those of all images."""
    return (image * height + (offset_y + y * dilation)) * width + (offset_x + x * dilation)


@triton.jit
def _read(pointers, exists, channel, DIM: tl.constexpr):
    """Read the channels of tokens; the mask depends on channels only if some are padding."""
    mask = exists[:, None]
    if channel.shape[0] != DIM:
        mask = mask & (channel < DIM)[None, :]
    return tl.load(pointers, mask, 0)


@triton.jit
def _start(place, count, KERNEL_SIZE: tl.constexpr):
    """Return the first neighbor of a position along an axis of `count` positions."""
    return tl.minimum(tl.maximum(place - KERNEL_SIZE // 2, 0), count - KERNEL_SIZE)


@triton.jit
def _windows(y, x, exists, rows, columns, KERNEL_SIZE: tl.constexpr):
    """Return the first neighbors of queries, so far away that they have none if a query does not exist.

    Keys that do not exist are in no window.
    """
    start_y = tl.where(exists, _start(y, rows, KERNEL_SIZE), -(2**30))
    return start_y, _start(x, columns, KERNEL_SIZE)


@triton.jit
def _covered(first, count, SIDE: tl.constexpr, KERNEL_SIZE: tl.constexpr):
    """Return the begin and end of all windows of the square's rows or columns."""
    last = tl.minimum(first + SIDE, count) - 1
    end = tl.where(last < first, 0, _start(last, count, KERNEL_SIZE) + KERNEL_SIZE)
    return _start(first, count, KERNEL_SIZE), end


@triton.jit
def _covering(first, count, SIDE: tl.constexpr, KERNEL_SIZE: tl.constexpr):
    """Return the begin and end of the queries whose windows may have one of the square's keys."""
    last = tl.minimum(first + SIDE, count) - 1
    begin = tl.where(first < KERNEL_SIZE, 0, first - KERNEL_SIZE // 2)
    end = tl.where(last >= count - KERNEL_SIZE, count, last + KERNEL_SIZE // 2 + 1)
    return begin, tl.where(last < first, 0, end)


@triton.jit
def _neighbors(start_y, start_x, key_y, key_x, KERNEL_SIZE: tl.constexpr):
    """Return whether keys are in the windows of queries, (queries, keys)."""
    # Negative distances are large as unsigned numbers.
    down = (key_y[None, :] - start_y[:, None]).to(tl.uint32, bitcast=True)
    across = (key_x[None, :] - start_x[:, None]).to(tl.uint32, bitcast=True)
    return (down < KERNEL_SIZE) & (across < KERNEL_SIZE)


@triton.jit
def _bias(table, y, x, key_y, key_x, near, KERNEL_SIZE: tl.constexpr):
    """Return the bias of keys in the windows of queries, (queries, keys)."""
    TABLE: tl.constexpr = 2 * KERNEL_SIZE - 1
    of_keys = key_y * TABLE + key_x
    of_queries = (y - (KERNEL_SIZE - 1)) * TABLE + (x - (KERNEL_SIZE - 1))
    return tl.load(table + (of_keys[None, :] - of_queries[:, None]), near, 0.0).to(tl.float32)


@triton.jit
def _table_gradient(
    slopes,
    down,
    across,
    SIDE: tl.constexpr,
    LINES: tl.constexpr,
    COLUMNS: tl.constexpr,
    TABLE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Sum the gradients of the scores, (queries, keys), by key minus query, (TABLE, TABLE).

    `down` and `across` are the place in the table of the first key and the first query. Both axes are
    summed by products with matrices of zeros and ones, without atomic additions.
    """
    number = tl.arange(0, TABLE)
    slopes = tl.reshape(slopes, [SIDE, SIDE, LINES, COLUMNS])
    slopes = tl.reshape(tl.permute(slopes, [0, 2, 1, 3]), [SIDE * LINES, SIDE * COLUMNS])
    pair = tl.arange(0, SIDE * COLUMNS)
    column = across + pair % COLUMNS - pair // COLUMNS
    is_column = (column[:, None] == number[None, :]).to(tl.float32)
    by_column = tl.dot(slopes, is_column, input_precision=PRECISION)
    pair = tl.arange(0, SIDE * LINES)
    row = down + pair % LINES - pair // LINES
    is_row = (number[:, None] == row[None, :]).to(tl.float32)
    return tl.dot(is_row, by_column, input_precision=PRECISION)
