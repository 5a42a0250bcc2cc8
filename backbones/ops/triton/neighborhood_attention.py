"""Neighborhood attention on CUDA, compiled by Triton.

Queries, keys, values and outputs are moved through memory about once each; keys and values that several
programs need are read again through the caches. The backward pass computes the weights again from the
logarithms of their sums, once to sum over keys and once to sum over queries, so it needs no atomic
additions and is deterministic.

Triton is imported when first needed, since it is not available on every platform.
"""

from types import ModuleType

import torch
from torch import Tensor

from backbones.ops.triton import launch_sizes

# Side of the square of tokens of a program; rows and columns of the blocks of tokens that it reads. For
# windows of 7, the windows of a square are as wide as a block.
SIDE, LINES, COLUMNS = 8, 2, 16
# Warps per program, by the size of an element. Loads are not pipelined: the products of a block are
# short, and the registers serve to run several programs at once instead.
WARPS = {2: 4, 4: 8}
STAGES = 1
# The smallest side of a matrix on tensor cores.
SMALLEST_SIDE = 16


def forward(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int
) -> tuple[Tensor, Tensor]:
    """See `backbones.ops.neighborhood_attention.attend`; sums are float32."""
    q, k, v = evenly_spaced(q, k, v)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    log_sums = q.new_empty(q.shape[:4], dtype=torch.float32)
    tensors = (q, k, v, rpb.contiguous(), out, log_sums)
    _launch(_kernels().forward, tensors, kernel_size, dilation)
    return out, log_sums


def backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor,
    out: Tensor,
    log_sums: Tensor,
    kernel_size: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and rpb, each in the dtype of its tensor. Deterministic."""
    if not q.numel():
        return tuple(torch.zeros_like(x) for x in (q, k, v, rpb))
    (q, k, v), grad_out = evenly_spaced(q, k, v), grad_out.to(q.dtype).contiguous()
    means = torch.linalg.vecdot(out.float(), grad_out.float())
    grad_q, grad_k, grad_v = (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(3))
    side, used = max(SMALLEST_SIDE, launch_sizes.power_of_two(2 * kernel_size - 1)), 2 * kernel_size - 1
    programs = squares(q.shape, dilation)
    tables = log_sums.new_empty(q.shape[3], programs, side, side)
    shared = (q, k, v, rpb.contiguous(), grad_out, log_sums, means)
    # The gradient of the table is a sum of many numbers, which bfloat16 would represent too coarsely.
    constants = {'TABLE': side, 'TABLE_PRECISION': table_precision(q.dtype)}
    kernels = _kernels()
    _launch(kernels.backward_queries, (*shared, grad_q, tables), kernel_size, dilation, constants)
    _launch(kernels.backward_keys, (*shared, grad_k, grad_v), kernel_size, dilation)
    grad_rpb = tables[:, :, :used, :used].sum(1)
    return grad_q, grad_k, grad_v, grad_rpb.to(rpb.dtype)


def evenly_spaced(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors (B, H, W, heads, D) whose tokens and heads have the same strides.

    Nothing is copied if they are slices of one tensor (B, H, W, 3, heads, D).
    """
    first = tensors[0]
    _, height, width, _, _ = first.shape
    token = first.stride(2)
    wanted = (height * width * token, width * token, token, first.stride(3), 1)
    if all(tensor.stride() == wanted for tensor in tensors):
        return tensors
    return tuple(tensor.contiguous() for tensor in tensors)


def precision(dtype: torch.dtype) -> str:
    """Return how to multiply float32 matrices, as PyTorch does; without effect on half precision."""
    return 'tf32' if dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32 else 'ieee'


def table_precision(dtype: torch.dtype) -> str:
    """Return how to sum float32 numbers by matrix products, for an attention in `dtype`.

    TensorFloat-32 has as many digits as float16, and more than bfloat16.
    """
    return precision(dtype) if dtype == torch.float32 else 'tf32'


def squares(shape: tuple[int, ...], dilation: int) -> int:
    """Return the number of programs per head for maps of shape (B, H, W, heads, D)."""
    down, across = squares_along(shape[1:3], dilation)
    return shape[0] * dilation**2 * down * across


def squares_along(lengths: tuple[int, ...], dilation: int) -> list[int]:
    """Return the number of squares along each axis of the largest map that the dilation leaves."""
    return [(length + dilation * SIDE - 1) // (dilation * SIDE) for length in lengths]


def _launch(
    kernel,
    tensors: tuple[Tensor, ...],
    kernel_size: int,
    dilation: int,
    constants: dict[str, int | str] | None = None,
) -> None:
    """Run a kernel on all squares of all heads."""
    q = tensors[0]
    if not q.numel():
        return
    _, height, width, heads, dim = q.shape
    down, across = squares_along((height, width), dilation)
    with torch.cuda.device_of(q):
        kernel[(squares(q.shape, dilation) * heads,)](
            *tensors,
            q.stride(2),
            q.stride(3),
            height,
            width,
            heads,
            dilation,
            down,
            across,
            dim**-0.5,
            KERNEL_SIZE=kernel_size,
            DIM=dim,
            PADDED_DIM=max(SMALLEST_SIDE, launch_sizes.power_of_two(dim)),
            SIDE=SIDE,
            LINES=LINES,
            COLUMNS=COLUMNS,
            PRECISION=precision(q.dtype),
            **(constants or {}),
            WIDE_INDEX=launch_sizes.needs_wide_index(*tensors),
            num_warps=WARPS[q.element_size()],
            num_stages=STAGES,
        )


def _kernels() -> ModuleType:
    from backbones.ops.triton import neighborhood_attention_kernels

    return neighborhood_attention_kernels
