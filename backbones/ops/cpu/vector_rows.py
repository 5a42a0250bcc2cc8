"""Rows of channels as SIMD vectors inside numba functions.

LLVM does not vectorize a sum of rows whose positions are only known at run time, since they may overlap,
so the vectors are explicit here. Products and sums are in single precision; arrays are float32, or
bfloat16 viewed as int16.

The width of a row is passed as a tuple of that length, so that its type gives it at compile time.
"""

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

_INT16, INT32, FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
# Fusing and regrouping sums changes the last bit, as any different order of summation does.
FLAGS = ('contract', 'reassoc', 'nsz')
# Half the weight of the last bit that is kept, minus one; the index of that bit; the bits of NaN.
_ROUND, _LOWEST_KEPT, _NAN = 0x7FFF, 16, 0x7FC0


class Row(types.Type):
    """Type of a vector of `width` single-precision numbers."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f'Row{width}')


@register_model(Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager, row: Row) -> None:
        super().__init__(manager, row, ir.VectorType(FLOAT, row.width))


_LOG2_E, _LN_2, _SMALLEST_EXPONENT = 1.4426950408889634, 0.6931471805599453, -126.0
# Taylor coefficients of exp, highest first; they reach single precision within half a binade.
_EXP_SERIES = (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)
_EXPONENT_BIAS, _MANTISSA_BITS = 127, 23


@intrinsic
def filled_row(typing_context, number, width):
    """Return a row with `number` in every element, (width,)."""
    row = Row(len(width))

    def generate(context, builder, signature, arguments):
        return everywhere(builder, arguments[0], row.width)

    return row(types.float32, width), generate


@intrinsic
def zero_row(typing_context, width):
    """Return a row of zeros, (width,)."""
    row = Row(len(width))

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.VectorType(FLOAT, row.width), [0.0] * row.width)

    return row(width), generate


@intrinsic
def load_row(typing_context, array, start, width):
    """Return `array[start : start + width]` of a flat array."""
    row = Row(len(width))

    def generate(context, builder, signature, arguments):
        return _loaded(context, builder, signature, arguments, row.width)

    return row(array, start, width), generate


@intrinsic
def load_number(typing_context, array, index):
    """Return `array[index]` of a flat array, as float32."""

    def generate(context, builder, signature, arguments):
        row = _loaded(context, builder, signature, arguments, 1)
        return builder.extract_element(row, INT32(0))

    return types.float32(array, index), generate


@intrinsic
def store_row(typing_context, array, start, row):
    """Set `array[start : start + width] = row` in a flat array, rounded to nearest even."""

    def generate(context, builder, signature, arguments):
        stored = arguments[2]
        place = _place(context, builder, signature, arguments, row.width)
        if place.type.pointee.element != FLOAT:
            stored = _rounded_to_bfloat16(builder, stored, row.width)
        builder.store(stored, place, align=2)
        return context.get_dummy_value()

    return types.void(array, start, row), generate


@intrinsic
def add_scaled(typing_context, total, factor, row):
    """Return `total + factor * row`."""

    def generate(context, builder, signature, arguments):
        total, factor, values = arguments
        factors = everywhere(builder, factor, row.width)
        return builder.fadd(total, builder.fmul(factors, values, flags=FLAGS), flags=FLAGS)

    return row(total, types.float32, row), generate


@intrinsic
def add_product(typing_context, total, row, other):
    """Return `total + row * other`."""

    def generate(context, builder, signature, arguments):
        total, row, other = arguments
        return builder.fadd(total, builder.fmul(row, other, flags=FLAGS), flags=FLAGS)

    return total(total, row, other), generate


@intrinsic
def repeated(typing_context, row, times):
    """Return a row that holds `row` as many times as `times`, a tuple, is long."""
    wide = Row(row.width * len(times))

    def generate(context, builder, signature, arguments):
        return _taken(builder, arguments[0], [i % row.width for i in range(wide.width)])

    return wide(row, times), generate


@intrinsic
def add_products(typing_context, total, row, other):
    """Return `total` plus the sum of the parts of `row * other`, each as wide as `total`."""

    def generate(context, builder, signature, arguments):
        summed, *factors = arguments
        for start in range(0, row.width, total.width):
            part = range(start, start + total.width)
            one, two = (_taken(builder, factor, part) for factor in factors)
            summed = builder.fadd(summed, builder.fmul(one, two, flags=FLAGS), flags=FLAGS)
        return summed

    return total(total, row, other), generate


@intrinsic
def add(typing_context, row, other):
    """Return `row + other`."""

    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments, flags=FLAGS)

    return row(row, other), generate


@intrinsic
def subtract(typing_context, row, other):
    """Return `row - other`."""

    def generate(context, builder, signature, arguments):
        return builder.fsub(*arguments, flags=FLAGS)

    return row(row, other), generate


@intrinsic
def multiply(typing_context, row, other):
    """Return `row * other`."""

    def generate(context, builder, signature, arguments):
        return builder.fmul(*arguments, flags=FLAGS)

    return row(row, other), generate


@intrinsic
def maximum(typing_context, row, other):
    """Return the element-wise maximum of two rows."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered('<', *arguments), *reversed(arguments))

    return row(row, other), generate


@intrinsic
def minimum(typing_context, row, other):
    """Return the element-wise minimum of two rows."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.fcmp_ordered('>', *arguments), *reversed(arguments))

    return row(row, other), generate


@intrinsic
def swap_pairs(typing_context, row):
    """Return a row with elements 2j and 2j + 1 exchanged; its width is even."""

    def generate(context, builder, signature, arguments):
        pairs = ir.Constant(ir.VectorType(INT32, row.width), [i ^ 1 for i in range(row.width)])
        return builder.shuffle_vector(arguments[0], arguments[0], pairs)

    return row(row), generate


@intrinsic
def exponentials(typing_context, row):
    """Return exp of numbers that are not positive; results below 2 ** -126 may be clamped to it."""

    def generate(context, builder, signature, arguments):
        width = row.width

        def constant(number):
            return _number_everywhere(number, width)

        power = builder.fmul(arguments[0], constant(_LOG2_E))
        too_small = builder.fcmp_ordered('<', power, constant(_SMALLEST_EXPONENT))
        power = builder.select(too_small, constant(_SMALLEST_EXPONENT), power)
        # Truncation after subtracting 0.5 rounds to nearest, since the numbers are not positive.
        integers = ir.VectorType(INT32, width)
        exponent = builder.fptosi(builder.fsub(power, constant(0.5)), integers)
        rest = builder.fsub(power, builder.sitofp(exponent, power.type))
        rest = builder.fmul(rest, constant(_LN_2))
        series = _polynomial(builder, _EXP_SERIES, rest)
        bits = builder.add(exponent, every(_EXPONENT_BIAS, width))
        bits = builder.shl(bits, every(_MANTISSA_BITS, width))
        return builder.fmul(series, builder.bitcast(bits, power.type))

    return row(row), generate


@intrinsic
def largest(typing_context, row):
    """Return the largest number of a row."""

    def generate(context, builder, signature, arguments):
        (values,) = arguments
        name = f'llvm.vector.reduce.fmax.v{row.width}f32'
        kind = ir.FunctionType(FLOAT, [values.type])
        reduce = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(reduce, [values])

    return types.float32(row), generate


@intrinsic
def dot(typing_context, row, other):
    """Return the inner product of two rows."""

    def generate(context, builder, signature, arguments):
        product = builder.fmul(*arguments, flags=FLAGS)
        name = f'llvm.vector.reduce.fadd.v{row.width}f32'
        kind = ir.FunctionType(FLOAT, [FLOAT, product.type])
        add = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(add, [ir.Constant(FLOAT, -0.0), product], fastmath=FLAGS)

    return types.float32(row, other), generate


def _place(context, builder, signature, arguments, width):
    """Return a pointer to the vector that starts at an index of a flat array."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    element = FLOAT if signature.args[0].dtype == types.float32 else _INT16
    start = builder.gep(array.data, [arguments[1]])
    return builder.bitcast(start, ir.VectorType(element, width).as_pointer())


def _loaded(context, builder, signature, arguments, width):
    """Return the vector that starts at an index of a flat array, in single precision."""
    loaded = builder.load(_place(context, builder, signature, arguments, width), align=2)
    if loaded.type.element == FLOAT:
        return loaded
    bits = builder.shl(builder.zext(loaded, ir.VectorType(INT32, width)), every(16, width))
    return builder.bitcast(bits, ir.VectorType(FLOAT, width))


def _taken(builder, row, indices):
    """Return a vector of the elements of `row` at constant indices."""
    indices = [*indices]
    mask = ir.Constant(ir.VectorType(INT32, len(indices)), indices)
    return builder.shuffle_vector(row, ir.Constant(row.type, ir.Undefined), mask)


def everywhere(builder, number, width):
    """Return a vector with the same number in every element."""
    undefined = ir.Constant(ir.VectorType(FLOAT, width), ir.Undefined)
    first = builder.insert_element(undefined, number, INT32(0))
    return builder.shuffle_vector(first, undefined, every(0, width))


def _number_everywhere(number: float, width: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(FLOAT, width), [number] * width)


def _polynomial(builder, coefficients: tuple[float, ...], x):
    """Evaluate a polynomial by Horner's rule, coefficients from the highest power to the constant."""
    total = _number_everywhere(coefficients[0], x.type.count)
    for coefficient in coefficients[1:]:
        product = builder.fmul(total, x, flags=FLAGS)
        total = builder.fadd(product, _number_everywhere(coefficient, x.type.count), flags=FLAGS)
    return total


def every(value: int, width: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(INT32, width), [value] * width)


def _rounded_to_bfloat16(builder, row, width):
    bits = builder.bitcast(row, ir.VectorType(INT32, width))
    odd = builder.and_(builder.lshr(bits, every(_LOWEST_KEPT, width)), every(1, width))
    bits = builder.add(builder.add(bits, every(_ROUND, width)), odd)
    high = builder.lshr(bits, every(_LOWEST_KEPT, width))
    # The addition above may turn a NaN into a different number.
    kept = builder.select(builder.fcmp_unordered('uno', row, row), every(_NAN, width), high)
    return builder.trunc(kept, ir.VectorType(_INT16, width))
