"""DCNv3 sampling on CUDA, compiled by Triton.

Values, offsets, logits and outputs are moved once each; plain PyTorch writes and reads nine float32
samples of every channel. The gradient of the values takes 36 atomic additions per channel, which limit
the speed of the backward pass.

Triton is imported when first needed, since it is not available on every platform.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor

# Warps per program, and bytes in the vector that each of their 32 threads moves.
WARPS, VECTOR = 4, 16
THREADS = 32 * WARPS
# Cache line of the GPU, in bytes.
LINE = 128
INT32_MAX = 2**31 - 1


@functools.cache
def available() -> bool:
    """Return whether Triton can be imported."""
    try:
        _kernels()
    except ImportError:
        return False
    return True


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`; computed in float32, even for float64.

    A position that is infinite or NaN is outside the map.
    """
    # The mixer's tensors are contiguous already, so this copies nothing.
    tensors = [tensor.contiguous() for tensor in (value, offsets, logits)]
    out = torch.empty_like(tensors[0])
    constants = {'KERNEL_SIZE': kernel_size}
    _launch(_kernels().forward, [*tensors, out], constants, value, value.element_size())
    return out


def backward(
    grad_out: Tensor, value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of value, offsets and logits, each in the dtype of its tensor.

    At the center of a pixel, where the output has a kink, the gradient of an offset is the one to the
    right or down, as in `torch.nn.functional.grid_sample`.

    The gradient of `value` is summed in float32 in an order that changes from call to call, and so does
    the rounding. With `torch.use_deterministic_algorithms` it is summed in 64-bit integers, so that the
    order does not matter: this is slower, and all NaN if `grad_out` has non-finite values.
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
    """Return the number of integer units per 1.0 for summing `grad_value`; float32 of shape ().

    A pixel receives at most the largest gradient from each token of its image, since a token's weights
    sum to one. The total has to stay within 63 bits.

    Args:
        grad_out: (B, H, W, heads, D).
    """
    tokens = max(1, grad_out.shape[1] * grad_out.shape[2])
    largest = grad_out.abs().amax().float() if grad_out.numel() else grad_out.new_zeros(())
    scale = (2.0**62 / tokens / largest).float().clamp(max=2.0**126)
    # Dividing by NaN later gives NaN, which the integers cannot represent.
    return scale.where(largest.isfinite(), torch.nan)


def rows_a_program(padded_dim: int, element_size: int) -> int:
    """Return how many rows of `padded_dim` channels a program moves with one vector per thread.

    At most half the number of threads: with more rows, Triton would spread the computations per row over
    all threads and pass the results through shared memory to the threads with the channels.
    """
    rows = THREADS * VECTOR // (padded_dim * element_size)
    return min(max(rows, 1), THREADS // 2)


@functools.cache
def head_group(heads: int, row_bytes: int) -> int:
    """Return how many heads a program processes together: a divisor of `heads`.

    It is the smallest number whose channels fill a cache line, or all heads if none does: with fewer
    heads, a program processes more tokens, which share corners.
    """
    enough = (group for group in range(1, heads) if heads % group == 0 and group * row_bytes >= LINE)
    return next(enough, heads)


def needs_wide_index(*tensors: Tensor) -> bool:
    """Return whether elements of these tensors need 64-bit indices."""
    return any(tensor.numel() > INT32_MAX for tensor in tensors)


def _launch(
    kernel, tensors: list[Tensor | None], constants: dict[str, int], value: Tensor, element_size: int
) -> None:
    """Run a kernel on all rows; `element_size` is that of the largest tensor it moves."""
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
    """Return the smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()


def _kernels() -> ModuleType:
    from backbones.ops.triton import dcnv3_kernels

    return dcnv3_kernels
