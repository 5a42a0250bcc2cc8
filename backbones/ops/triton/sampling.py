"""Launch the Triton kernels of deformable convolutions: `dcnv3_kernels` and `dcnv4_kernels`."""

import functools
from typing import Any

import torch
from torch import Tensor

from backbones.ops.triton import launch_sizes

# Warps per program, and bytes in the vector that each of their 32 threads moves.
WARPS, VECTOR = 4, 16
THREADS = 32 * WARPS
# Cache line of the GPU, in bytes.
LINE = 128


def fixed_point_scale(grad_out: Tensor, most: Tensor | float = 1.0) -> Tensor:
    """Return the number of integer units per 1.0 for summing `grad_value`; float32 of shape ().

    A pixel receives at most `most` times the largest gradient from each token of its image. The total
    has to stay within 63 bits.

    Args:
        grad_out: (B, H, W, heads, D).
        most: largest sum of the absolute weights of a token and head.
    """
    tokens = max(1, grad_out.shape[1] * grad_out.shape[2])
    largest = grad_out.abs().amax().float() if grad_out.numel() else grad_out.new_zeros(())
    largest = largest * most
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


def launch(
    kernel: Any,
    tensors: list[Tensor | None],
    constants: dict[str, int],
    value: Tensor,
    element_size: int,
    numbers: tuple[int | float, ...] = (),
) -> None:
    """Run a kernel on all rows.

    Args:
        kernel: jitted function.
        tensors: its first arguments.
        constants: its own compile-time constants.
        value: (B, H, W, heads, D).
        element_size: bytes of an element of the largest tensor that the kernel moves.
        numbers: arguments between the tensors and the sizes of the map.
    """
    if not value.numel():
        return
    batch, height, width, heads, dim = value.shape
    padded_dim = launch_sizes.power_of_two(dim)
    block = rows_a_program(padded_dim, element_size)
    group = head_group(heads, dim * value.element_size())
    rows = batch * height * width * group
    programs = -(-rows // block) * (heads // group)
    with torch.cuda.device_of(value):
        kernel[(programs,)](
            *tensors,
            *numbers,
            height,
            width,
            heads,
            group,
            rows,
            **constants,
            DIM=dim,
            PADDED_DIM=padded_dim,
            BLOCK=block,
            WIDE_INDEX=launch_sizes.needs_wide_index(*(each for each in tensors if each is not None)),
            num_warps=WARPS,
        )
