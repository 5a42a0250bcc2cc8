"""Functions of the Triton kernels of the selective scan.

A *walk* is a tuple of an image, a direction, and the height and width of the map. *Lanes* are the
numbers of a program's channels, (BLOCK,), and their mask.
"""

# ruff: noqa: N803, N806 (compile-time constants are in capitals, as usual in Triton)

import triton
import triton.language as tl

# Sizes of maps differ between images; compile only once for all of them.
RUNTIME_SIZES = ('direction', 'height', 'width', 'count', 'first_chunk')


@triton.jit
def own_chunk(count, DIM: tl.constexpr, BLOCK: tl.constexpr, WIDE_INDEX: tl.constexpr):
    """Return the image, the number of the chunk and the lanes of this program."""
    index: tl.constexpr = tl.int64 if WIDE_INDEX else tl.int32
    BLOCKS: tl.constexpr = (DIM + BLOCK - 1) // BLOCK
    channel = tl.program_id(0) % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    return tl.program_id(2).to(index), tl.program_id(0) // BLOCKS, (channel, channel < DIM)


@triton.jit
def token_at(position, walk):
    """Return the token at a position of a sequence, counted over all images.

    After the end of the sequence, this is the token of its last position.
    """
    image, direction, height, width = walk
    length = height * width
    position = tl.minimum(position, length - 1)
    position = tl.where(direction >= 2, length - 1 - position, position)
    by_columns = position % height * width + position // height
    return image * length + tl.where(direction % 2 == 1, by_columns, position)


@triton.jit
def exists(position, walk):
    """Return whether a sequence has this position."""
    _, _, height, width = walk
    return position < height * width


@triton.jit
def channels(pointer, first, lanes):
    """Return one number per channel, in float32."""
    channel, mask = lanes
    return tl.load(pointer + first + channel, mask, 0).to(tl.float32)


@triton.jit
def rows(pointer, first, lanes, COUNT: tl.constexpr, DIM: tl.constexpr):
    """Return the channels of `COUNT` rows, each of `DIM` numbers."""
    result = ()
    for n in tl.static_range(COUNT):
        result += (channels(pointer, first + n * DIM, lanes),)
    return result


@triton.jit
def store_rows(pointer, first, lanes, values, COUNT: tl.constexpr, DIM: tl.constexpr):
    """Write the channels of `COUNT` rows, each of `DIM` numbers."""
    channel, mask = lanes
    for n in tl.static_range(COUNT):
        tl.store(pointer + first + n * DIM + channel, values[n], mask)


@triton.jit
def zeros(COUNT: tl.constexpr, BLOCK: tl.constexpr):
    """Return rows of zeros."""
    result = ()
    for _ in tl.static_range(COUNT):
        result += (tl.zeros([BLOCK], tl.float32),)
    return result


@triton.jit
def b_and_c(projected, token, walk, RANK: tl.constexpr, STATES: tl.constexpr):
    """Return B and C of a token, a tuple of 2 S scalars."""
    _, direction, _, _ = walk
    first = projected + (token * 4 + direction) * (RANK + 2 * STATES) + RANK
    numbers = ()
    for n in tl.static_range(2 * STATES):
        numbers += (tl.load(first + n).to(tl.float32),)
    return numbers


@triton.jit
def next_state(state, rate, step, entering, b, STATES: tl.constexpr):
    """Return the states after a position; `b` has B first, and `entering` is the step size times u."""
    after = ()
    for n in tl.static_range(STATES):
        after += (tl.exp(step * rate[n]) * state[n] + b[n] * entering,)
    return after


@triton.jit
def softplus(x):
    """Return log(1 + exp(x)) and its derivative, both exact to float32 for very negative x too."""
    small = tl.exp(-tl.abs(x))
    # log(1 + small) = 2 artanh(z) by its series; z is at most 1/3.
    z = small / (2 + small)
    z2 = z * z
    series = 1 / 7 + z2 * (1 / 9 + z2 * (1 / 11 + z2 * (1 / 13)))
    series = 1 + z2 * (1 / 3 + z2 * (1 / 5 + z2 * series))
    return tl.maximum(x, 0) + 2 * z * series, tl.where(x < 0, small, 1) / (1 + small)
