"""Groups of adjacent rows from `vector_rows`, and transposition of square blocks.

A group is a tuple of rows that stays in registers. Its length is passed as a tuple of that length, as is
the width of a row.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from backbones.ops.cpu.vector_rows import FLAGS, FLOAT, INT32, Row, every, everywhere


@intrinsic
def load_group(typing_context, array, start, step, width, count):
    """Return the rows `array[start + i * step :][:width]` of a flat float32 array."""
    group = types.UniTuple(Row(len(width)), len(count))

    def generate(context, builder, signature, arguments):
        rows = _loaded_group(context, builder, signature, arguments, group)
        return context.make_tuple(builder, group, rows)

    return group(array, types.int64, types.int64, width, count), generate


@intrinsic
def load_group_with_ends(
    typing_context, array, start, left, lanes_left, right, first_right, width, count
):
    """Return the rows `array[start + i :][:width]`, with other numbers at both ends.

    In row i, elements before `lanes_left` are `array[left + i]`, and those from `first_right` on are
    `array[right + i]`.
    """
    group = types.UniTuple(Row(len(width)), len(count))

    def generate(context, builder, signature, arguments):
        lanes = len(width)
        array, start, left, lanes_left, right, first_right = arguments[:6]
        one = ir.Constant(start.type, 1)
        loaded = _loaded_group(context, builder, signature, (array, start, one), group)
        data = _data(context, builder, signature, arguments)
        number = ir.Constant(ir.VectorType(INT32, lanes), list(range(lanes)))
        is_left = builder.icmp_signed('<', number, _whole(builder, lanes_left, lanes))
        is_right = builder.icmp_signed('>=', number, _whole(builder, first_right, lanes))
        rows = []
        for i, row in enumerate(loaded):
            shift = ir.Constant(start.type, i)
            at_left = builder.load(builder.gep(data, [builder.add(left, shift)]))
            at_right = builder.load(builder.gep(data, [builder.add(right, shift)]))
            row = builder.select(is_left, everywhere(builder, at_left, lanes), row)
            rows.append(builder.select(is_right, everywhere(builder, at_right, lanes), row))
        return context.make_tuple(builder, group, rows)

    places = (types.int64,) * 5
    return group(array, *places, width, count), generate


@intrinsic
def store_group(typing_context, array, start, step, group):
    """Set `array[start + i * step :][:width]` to row i in a flat float32 array."""

    def generate(context, builder, signature, arguments):
        data = _data(context, builder, signature, arguments)
        for i, row in enumerate(cgutils.unpack_tuple(builder, arguments[3])):
            builder.store(row, _place(builder, data, arguments[1], arguments[2], i, row.type), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, group), generate


@intrinsic
def add_multiples(typing_context, totals, row, group):
    """Return `totals[i] + row * group[i]` for all i."""

    def generate(context, builder, signature, arguments):
        totals, row, group = arguments
        sums = [
            _fused(builder, total, row, other)
            for total, other in zip(
                cgutils.unpack_tuple(builder, totals), cgutils.unpack_tuple(builder, group), strict=True
            )
        ]
        return context.make_tuple(builder, signature.return_type, sums)

    return totals(totals, row, group), generate


@intrinsic
def add_weighted(typing_context, total, weights, group):
    """Return `total` plus the sum of `weights[i] * group[i]` over all i."""

    def generate(context, builder, signature, arguments):
        total, weights, group = arguments
        for weight, row in zip(
            cgutils.unpack_tuple(builder, weights), cgutils.unpack_tuple(builder, group), strict=True
        ):
            total = _fused(builder, total, weight, row)
        return total

    return total(total, weights, group), generate


@intrinsic
def transpose_block(typing_context, source, start, step, target, at, pitch, width):
    """Set `target[at + j * pitch + i] = source[start + i * step + j]` for i and j below the width.

    Both arrays are flat float32 arrays; the width is a power of two.
    """

    def generate(context, builder, signature, arguments):
        _, start, step, target, at, pitch, _ = arguments
        side = len(width)
        row = ir.VectorType(FLOAT, side)
        data = _data(context, builder, signature, arguments)
        rows = [builder.load(_place(builder, data, start, step, i, row), align=4) for i in range(side)]
        bit = 1
        while bit < side:
            # Exchange this bit of the index of the row with that of the index in the row.
            low = [i if not i & bit else side + i - bit for i in range(side)]
            high = [i + bit if not i & bit else side + i for i in range(side)]
            for i in range(side):
                if not i & bit:
                    pair = rows[i], rows[i + bit]
                    rows[i] = _shuffled(builder, pair, low)
                    rows[i + bit] = _shuffled(builder, pair, high)
            bit *= 2
        data = context.make_array(signature.args[3])(context, builder, target).data
        for i in range(side):
            builder.store(rows[i], _place(builder, data, at, pitch, i, row), align=4)
        return context.get_dummy_value()

    places = (types.int64, types.int64)
    return types.void(source, *places, target, *places, width), generate


def _data(context, builder, signature, arguments):
    return context.make_array(signature.args[0])(context, builder, arguments[0]).data


def _place(builder, data, start, step, number, row):
    """Return a pointer to the row at `start + number * step`."""
    shift = builder.mul(step, ir.Constant(step.type, number))
    return builder.bitcast(builder.gep(data, [builder.add(start, shift)]), row.as_pointer())


def _loaded_group(context, builder, signature, arguments, group):
    data, row = _data(context, builder, signature, arguments), ir.VectorType(FLOAT, group.dtype.width)
    start, step = arguments[1:3]
    return [
        builder.load(_place(builder, data, start, step, i, row), align=4) for i in range(group.count)
    ]


def _fused(builder, total, row, other):
    return builder.fadd(total, builder.fmul(row, other, flags=FLAGS), flags=FLAGS)


def _whole(builder, number, width):
    """Return a vector with a 64-bit number in every element, as 32-bit integers."""
    undefined = ir.Constant(ir.VectorType(INT32, width), ir.Undefined)
    first = builder.insert_element(undefined, builder.trunc(number, INT32), INT32(0))
    return builder.shuffle_vector(first, undefined, every(0, width))


def _shuffled(builder, pair, order):
    mask = ir.Constant(ir.VectorType(INT32, len(order)), order)
    return builder.shuffle_vector(*pair, mask)
