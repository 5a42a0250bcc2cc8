"""DCNv3's sampling on CUDA, compiled by Triton.

Values, offsets, logits and outputs are moved once each, where plain PyTorch writes and reads back nine
samples of every channel in float32. The gradient of the values takes 36 atomic additions a channel; they
bound the speed of the backward pass.

Triton is imported where it is first needed, since not every platform has it.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor

# A program has this many warps, and each of their 32 threads moves one vector of this many bytes.
WARPS, VECTOR = 4, 16
THREADS = 32 * WARPS
# Of the GPU's caches, in bytes.
LINE = 128
INT32_MAX = 2**31 - 1


@functools.cache
def available() -> bool:
    """Whether Triton can be imported."""
    try:
        _kernels()
    except ImportError:
        return False
    return True


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`; computed in float32, also for float64.

    A position that is infinite or not a number is outside the map.
    """
    # As the mixer makes them they are contiguous, and this copies nothing.
    tensors = [tensor.contiguous() for tensor in (value, offsets, logits)]
    out = torch.empty_like(tensors[0])
    constants = {'KERNEL_SIZE': kernel_size}
    _launch(_kernels().forward, [*tensors, out], constants, value, value.element_size())
    return out


def backward(
    grad_out: Tensor, value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, offsets and logits, each in the dtype of its own.

    At the centre of a pixel, where the output bends, the gradient of an offset is that to the right or
    downwards, as of `torch.nn.functional.grid_sample`.

    The gradient of `value` is summed in float32 in an order, and so with a rounding, that changes from
    call to call. Under `torch.use_deterministic_algorithms` it is summed in 64-bit integers, where order
    does not matter: the same at every call, but slower, and all NaN if a number of `grad_out` is not
    finite.
    """
    tensors = [tensor.contiguous() for tensor in (grad_out, value, offsets, logits)]
    grad_offsets, grad_logits = torch.zeros_like(tensors[2]), torch.zeros_like(tensors[3])
    scale = fixed_point_scale(grad_out) if torch.are_deterministic_algorithms_enabled() else None
    summed = torch.zeros_like(tensors[1], dtype=torch.float32 if scale is None else torch.int64)
    tensors += [summed, grad_offsets, grad_logits, scale]
    constants = {'KERNEL_SIZE': kernel_size, 'PADDED_POINTS': _power_of_two(kernel_size**2)}
    _launch(_kernels().backward, tensors, constants, value, summed.element_size())
    if scale is not None:
        summed = summed.double() / scale
    return summed.to(value.dtype), grad_offsets, grad_logits


def fixed_point_scale(grad_out: Tensor) -> Tensor:
    """How many units of the integers, in which `grad_value` is summed, are one; float32 of shape ().

    A pixel receives from each token of its image at most the largest gradient there is, since a token's
    weights sum to one. All together have to stay within 63 bits.

    Args:
        grad_out: (B, H, W, heads, D).
    """
    tokens = max(1, grad_out.shape[1] * grad_out.shape[2])
    largest = grad_out.abs().amax().float() if grad_out.numel() else grad_out.new_zeros(())
    scale = (2.0**62 / tokens / largest).float().clamp(max=2.0**126)
    # Dividing by it then shows what the integers cannot.
    return scale.where(largest.isfinite(), torch.nan)


def rows_a_program(padded_dim: int, element_size: int) -> int:
    """Of rows of so many channels, as many as the threads of a program move with one vector each.

    But fewer than threads: Triton would spread what is computed once a row over all of them, and pass it
    on through shared memory to where the channels are.
    """
    rows = THREADS * VECTOR // (padded_dim * element_size)
    return min(max(rows, 1), THREADS // 2)


@functools.cache
def head_group(heads: int, row_bytes: int) -> int:
    """How many heads a program takes together: a divisor of `heads`.

    The fewest whose channels fill a line of the cache, if any do: with fewer heads it takes more tokens,
    and these share corners.
    """
    enough = (group for group in range(1, heads) if heads % group == 0 and group * row_bytes >= LINE)
    return next(enough, heads)


def needs_wide_index(*tensors: Tensor) -> bool:
    """Whether elements of these tensors cannot be numbered in 32 bits."""
    return any(tensor.numel() > INT32_MAX for tensor in tensors)


def _launch(
    kernel, tensors: list[Tensor | None], constants: dict[str, int], value: Tensor, element_size: int
) -> None:
    """Run a kernel on all rows; `element_size` is that of the channels it moves most of."""
    if not value.numel():
        return
    batch, height, width, heads, dim = value.shape
    padded_dim = _power_of_two(dim)
    block = rows_a_program(padded_dim, element_size)
    group = head_group(heads, dim * value.element_size())
    rows = batch * height * width * group
    programs = -(-rows // block) * (heads // group)
    with torch.cuda.device_of(value):
        kernel[(programs,)](
            *tensors,
            height,
            width,
            heads,
            group,
            rows,
            **constants,
            DIM=dim,
            PADDED_DIM=padded_dim,
            BLOCK=block,
            WIDE_INDEX=needs_wide_index(*(tensor for tensor in tensors if tensor is not None)),
            num_warps=WARPS,
        )


def _power_of_two(number: int) -> int:
    """The smallest that is not below."""
    return 1 << (number - 1).bit_length()


def _kernels() -> ModuleType:
    from backbones.ops.triton import dcnv3_kernels

    return dcnv3_kernels
