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


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`; computed in float32, even for float64.

    A position that is infinite or NaN is outside the map.
    """
    # The mixer's tensors are contiguous already, so this copies nothing.
    tensors = [tensor.contiguous() for tensor in (value, offsets, logits)]
    out = torch.empty_like(tensors[0])
    constants = {'KERNEL_SIZE': kernel_size}
    launch(_kernels().forward, [*tensors, out], constants, value, value.element_size())
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
    constants = {'KERNEL_SIZE': kernel_size, 'PADDED_POINTS': power_of_two(kernel_size**2)}
    launch(_kernels().backward, tensors, constants, value, summed.element_size())
    if scale is not None:
        summed = summed.double() / scale
    return summed.to(value.dtype), grad_offsets, grad_logits


def _kernels() -> ModuleType:
    from backbones.ops.triton import dcnv3_kernels

    return dcnv3_kernels
