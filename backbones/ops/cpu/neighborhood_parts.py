"""Parts of a map in which neighborhood attention is computed on the CPU.

Tokens with the same remainders modulo the dilation form a map of their own, where neighborhoods are
windows of adjacent tokens. A *part* is a rectangle of queries of one such map, of one head.
"""

from typing import NamedTuple

from backbones.ops.cpu.compiled import compiled, has_wide_vectors

# Queries in a vector; two rows of 7 sums fit in the registers.
SIDE = 16 if has_wide_vectors() else 8
LANES = (0,) * SIDE
# Rows and vectors of queries in a part, at most; more for very large windows.
ROWS, VECTORS = 32, 4


class Plan(NamedTuple):
    """A map (height, width) of several heads, and the number of parts along each axis."""

    height: int
    width: int
    heads: int
    dilation: int
    segments: int
    strips: int
    pitch: int


class Part(NamedTuple):
    """Queries from `top` and `left` to before `bottom` and `right`, in a map of `rows` x `columns`.

    The map has the tokens at `offset_y` and `offset_x` modulo the dilation. Buffers hold the columns
    from `first` to before `last`, which are all that the queries' windows can reach. `index` counts all
    parts of all heads and images.
    """

    index: int
    image: int
    head: int
    offset_y: int
    offset_x: int
    rows: int
    columns: int
    top: int
    bottom: int
    left: int
    right: int
    first: int
    last: int


class Ends(NamedTuple):
    """Windows at the borders: where they start in a buffer, and which lanes of a vector they serve."""

    left: int
    lanes_left: int
    right: int
    first_right: int


def plan_for(shape: tuple[int, ...], kernel_size: int, dilation: int) -> Plan:
    """Cut maps of shape (B, H, W, heads, D) into parts.

    Parts are so large that every other one along an axis has no keys in common.
    """
    _, height, width, heads, _ = shape
    apart = 4 * (kernel_size - 1)
    vectors = max(VECTORS, _ceil_div(apart, SIDE))
    segments = _ceil_div(_ceil_div(height, dilation), max(ROWS, apart))
    strips = _ceil_div(_ceil_div(width, dilation), vectors * SIDE)
    # Windows before the first column and after the last vector are read, but never used.
    pitch = 4 * kernel_size + (vectors + 1) * SIDE
    return Plan(height, width, heads, dilation, segments, strips, pitch + -pitch % 16)


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)


def number_of_parts(
    shape: tuple[int, ...], plan: Plan, stride: int = 1, parity: tuple[int, int] = (0, 0)
) -> int:
    """Return the number of parts that `part_of` numbers."""
    segments = len(range(parity[0], plan.segments, stride))
    strips = len(range(parity[1], plan.strips, stride))
    return shape[0] * plan.heads * plan.dilation**2 * segments * strips


@compiled
def part_of(plan, size, number, stride, parity):
    """Return part `number` of those with every `stride`-th segment and strip, for windows of `size`.

    Args:
        parity: first segment and first strip.
    """
    t, halo = plan.dilation, size - 1
    strips = (plan.strips - parity[1] + stride - 1) // stride
    segments = (plan.segments - parity[0] + stride - 1) // stride
    strip, number = number % strips * stride + parity[1], number // strips
    segment, number = number % segments * stride + parity[0], number // segments
    offset_x, number = number % t, number // t
    offset_y, number = number % t, number // t
    head, image = number % plan.heads, number // plan.heads
    rows = (plan.height - offset_y + t - 1) // t
    columns = (plan.width - offset_x + t - 1) // t
    most = (plan.height + t - 1) // t
    top, bottom = most * segment // plan.segments, most * (segment + 1) // plan.segments
    vectors = ((plan.width + t - 1) // t + SIDE - 1) // SIDE
    left, right = vectors * strip // plan.strips * SIDE, vectors * (strip + 1) // plan.strips * SIDE
    bottom, right = min(bottom, rows), min(right, columns)
    first, last = max(0, left - halo), min(columns, right + halo)
    index = ((image * plan.heads + head) * t + offset_y) * t + offset_x
    index = (index * plan.segments + segment) * plan.strips + strip
    return Part(
        index, image, head, offset_y, offset_x, rows, columns, top, bottom, left, right, first, last
    )


@compiled
def window_start(place, count, size):
    """Return the first neighbor of a position along an axis of `count` positions."""
    return min(max(place - size // 2, 0), count - size)


@compiled
def column_in_buffer(part, column, size):
    """Return where a column is in a row of a buffer, which starts with `size` unused elements."""
    return column - part.first + size


@compiled
def ends_of(part, column, size):
    """Return the windows at the borders for the vector of queries from `column`, and if it has any."""
    lanes_left, first_right = size // 2 - column, part.columns - size // 2 - column
    # Without such queries, the window may be outside the buffer.
    left = column_in_buffer(part, 0 if lanes_left > 0 else part.first, size)
    right = part.columns - size if first_right < SIDE else part.first
    ends = Ends(left, lanes_left, column_in_buffer(part, right, size), first_right)
    return ends, lanes_left > 0 or first_right < SIDE


@compiled
def first_element(place, plan, part, y, column):
    """Return the index in memory of a token of the part's map, and the distance to the next column."""
    t = plan.dilation
    line = part.image * plan.height + part.offset_y + t * y
    token = line * plan.width + part.offset_x + t * column
    return place[0] + token * place[1] + part.head * place[2], t * place[1]
