"""Sampling of deformable convolution v4 as one operator (Xiong et al., arXiv 2401.06197, section 3).

There are three implementations: plain PyTorch (the reference), numba on the CPU, and Triton on CUDA.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from backbones.errors import BackboneError
from backbones.ops import dcnv4_reference
from backbones.ops.fast_paths import fast_path, implementation_of

# Module of the fast paths, and name in warnings.
OPERATOR = ('dcnv4', 'deformable convolution v4')

# The number of channels of `offset_mask` is a multiple of this.
MULTIPLE = 8


def dcnv4(value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    """Compute weighted sums of bilinear samples around every token, with any numbers as weights.

    Point i of K = kernel_size ** 2 is at `token + offset_scale * (grid_i + offset_i)`, in pixels.
    Samples outside the map and at non-finite positions are zero. Differentiable once; supports
    `torch.compile` and `torch.export`.
    Half precision is sampled and summed in float32; float64 always uses the reference. See `fast_paths`
    for the environment variables `DENSE_MIXERS_CPU` and `DENSE_MIXERS_CUDA`.

    Args:
        value: (B, H, W, heads, D).
        offset_mask: (B, H, W, P), P = `offset_mask_channels(heads, kernel_size)`. Each head has 3 K
            adjacent channels: the offsets x_0, y_0, x_1, y_1, ..., then the K weights. Points run
            down the columns of the grid first. The last P - 3 K heads channels are not read.
        kernel_size: side of the sampling grid.
        offset_scale: factor of the undeformed grid and of the offsets.

    Returns:
        (B, H, W, heads, D), in the dtype of `value`.

    Raises:
        BackboneError: the shapes do not match, or an environment variable has an unknown value.
    """
    check_shapes(value, offset_mask, kernel_size)
    if implementation(value.device.type, value.dtype) == 'reference':
        return dcnv4_reference.forward(value, offset_mask, kernel_size, offset_scale)
    return sample(value, offset_mask, kernel_size, offset_scale)


@torch.library.custom_op('dense_mixers::dcnv4', mutates_args=())
def sample(value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    """Compute `dcnv4` with a compiled implementation, as one operator."""
    return _kernels(value.device.type).forward(value, offset_mask, kernel_size, offset_scale)


@torch.library.custom_op('dense_mixers::dcnv4_backward', mutates_args=())
def sample_backward(
    grad_out: Tensor, value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float
) -> tuple[Tensor, Tensor]:
    """Return the gradients of value and offset_mask of `sample`."""
    kernels = _kernels(value.device.type)
    return kernels.backward(grad_out, value, offset_mask, kernel_size, offset_scale)


@sample.register_fake
def _(value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float) -> Tensor:
    return value.new_empty(value.shape)


@sample_backward.register_fake
def _(
    grad_out: Tensor, value: Tensor, offset_mask: Tensor, kernel_size: int, offset_scale: float
) -> tuple[Tensor, Tensor]:
    return value.new_empty(value.shape), offset_mask.new_empty(offset_mask.shape)


def _keep_inputs(ctx, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.kernel_size, ctx.offset_scale = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    gradients = sample_backward(grad_out, *ctx.saved_tensors, ctx.kernel_size, ctx.offset_scale)
    return *gradients, None, None


sample.register_autograd(_gradients, setup_context=_keep_inputs)


@register_flop_formula(torch.ops.dense_mixers.dcnv4)
def _flops(value_shape, offset_mask_shape, kernel_size, *_, out_shape=None, **__) -> int:
    """Count four products for the corners of each sample, and their sums.

    A head's channels share the products of corner weights and weights; they do not count. The formula of
    `dcnv3` counts a fifth product, for the weight of the sample, as its publication does.
    """
    return 2 * 4 * value_shape.numel() * kernel_size**2


def offset_mask_channels(heads: int, kernel_size: int) -> int:
    """Return the channels P of `offset_mask`: 3 per point of each head, rounded up to `MULTIPLE`."""
    return -(-heads * 3 * kernel_size**2 // MULTIPLE) * MULTIPLE


def check_shapes(value: Tensor, offset_mask: Tensor, kernel_size: int) -> None:
    """Check the shapes; the compiled code does no bounds checks.

    Raises:
        BackboneError: the shapes are not those that `dcnv4` expects.
    """
    channels = offset_mask_channels(value.shape[3], kernel_size) if value.dim() == 5 else None
    if value.dim() != 5 or offset_mask.shape != (*value.shape[:3], channels):
        raise BackboneError(
            f'dcnv4: shapes of value {tuple(value.shape)} and offset_mask {tuple(offset_mask.shape)} '
            f'do not match; expected (B, H, W, heads, D) and (B, H, W, P), where P is '
            f'{3 * kernel_size**2} * heads rounded up to a multiple of {MULTIPLE}'
        )


@torch.compiler.assume_constant_result
def implementation(device: str, dtype: torch.dtype) -> str:
    """Return `numba`, `triton` or `reference`; see `implementation_of`."""
    return implementation_of(*OPERATOR, device, dtype)


def _kernels(device: str) -> ModuleType | None:
    return fast_path(device, *OPERATOR)
