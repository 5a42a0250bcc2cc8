"""DCNv4 sampling on CUDA, compiled by Triton: that of DCNv3 without the softmax.

Offsets and weights are read where they lie, and so are their gradients written.

Triton is imported when first needed, since it is not available on every platform.
"""

import functools
from types import ModuleType

import torch
from torch import Tensor

from backbones.ops.dcnv4_reference import offsets_and_weights
from backbones.ops.triton.launch_sizes import power_of_two
from backbones.ops.triton.sampling import fixed_point_scale, launch


@functools.cache
def available() -> bool:
    """Return whether Triton can be imported."""
    try:
        _kernels()
    except ImportError:
        return False
    return True


def forward(value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    """See `backbones.ops.dcnv4`; computed in float32, even for float64.

    A position that is infinite or NaN is outside the map.
    """
    # The mixer's tensors are contiguous already, so this copies nothing.
    tensors = [value.contiguous(), offset_mask.contiguous()]
    out = torch.empty_like(tensors[0])
    numbers = (offset_mask.shape[3], offset_scale)
    constants = {'KERNEL_SIZE': kernel_size}
    launch(_kernels().forward, [*tensors, out], constants, value, value.element_size(), numbers)
    return out


def backward(
    grad_out: Tensor, value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of value and offset_mask, each in the dtype of its tensor.

    At the center of a pixel, where the output has a kink, the gradient of an offset is the one to the
    right or down, as in `torch.nn.functional.grid_sample`.

    The gradient of `value` is summed in float32 in an order that changes from call to call, and so does
    the rounding. With `torch.use_deterministic_algorithms` it is summed in 64-bit integers, so that the
    order does not matter: this is slower, and all NaN if `grad_out` or a weight is not finite.
    """
    tensors = [tensor.contiguous() for tensor in (grad_out, value, offset_mask)]
    # The padding is not written by the kernel.
    grad_offset_mask = torch.zeros_like(tensors[2])
    scale = None
    if torch.are_deterministic_algorithms_enabled():
        scale = fixed_point_scale(grad_out, _largest_sum(offset_mask, value.shape[3], kernel_size))
    summed = torch.zeros_like(tensors[1], dtype=torch.float32 if scale is None else torch.int64)
    tensors += [summed, grad_offset_mask, scale]
    numbers = (offset_mask.shape[3], offset_scale)
    constants = {'KERNEL_SIZE': kernel_size, 'PADDED_POINTS': power_of_two(kernel_size**2)}
    launch(_kernels().backward, tensors, constants, value, summed.element_size(), numbers)
    if scale is not None:
        summed = summed.double() / scale
    return summed.to(value.dtype), grad_offset_mask


def _largest_sum(offset_mask: Tensor, heads: int, kernel_size: int) -> Tensor | float:
    """Return the largest sum of the absolute weights of a token and head."""
    if not offset_mask.numel():
        return 0.0
    _, weights = offsets_and_weights(offset_mask, heads, kernel_size)
    return weights.float().abs().sum(-1).amax()


def _kernels() -> ModuleType:
    from backbones.ops.triton import dcnv4_kernels

    return dcnv4_kernels
