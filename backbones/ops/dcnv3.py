"""Sampling of deformable convolution v3 as one operator (Wang et al., arXiv 2211.05778, eq. 2).

There are three implementations: plain PyTorch (the reference), numba on the CPU, and Triton on CUDA.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from backbones.errors import BackboneError
from backbones.ops import dcnv3_reference
from backbones.ops.fast_paths import fast_path, implementation_of

# Module of the fast paths, and name in warnings.
OPERATOR = ('dcnv3', 'deformable convolution')


def dcnv3(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Compute weighted sums of bilinear samples around every token; weights sum to one per head.

    Samples outside the map and at non-finite positions are zero. Differentiable once; supports
    `torch.compile` and `torch.export`.
    Half precision is sampled and summed in float32; float64 always uses the reference. See `fast_paths`
    for the environment variables `DENSE_MIXERS_CPU` and `DENSE_MIXERS_CUDA`.

    Args:
        value: (B, H, W, heads, D).
        offsets: (B, H, W, heads, kernel_size ** 2, 2), (x, y) in pixels from the undeformed grid, whose
            points run down the columns first.
        logits: (B, H, W, heads, kernel_size ** 2); their softmax gives the weights.
        kernel_size: side of the sampling grid.

    Returns:
        (B, H, W, heads, D), in the dtype of `value`.

    Raises:
        BackboneError: the shapes do not match, or an environment variable has an unknown value.
    """
    check_shapes(value, offsets, logits, kernel_size)
    if implementation(value.device.type, value.dtype) == 'reference':
        return dcnv3_reference.forward(value, offsets, logits, kernel_size)
    return sample(value, offsets, logits, kernel_size)


@torch.library.custom_op('dense_mixers::dcnv3', mutates_args=())
def sample(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """Compute `dcnv3` with a compiled implementation, as one operator."""
    return _kernels(value.device.type).forward(value, offsets, logits, kernel_size)


@torch.library.custom_op('dense_mixers::dcnv3_backward', mutates_args=())
def sample_backward(
    grad_out: Tensor, value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of value, offsets and logits of `sample`."""
    return _kernels(value.device.type).backward(grad_out, value, offsets, logits, kernel_size)


@sample.register_fake
def _(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    return value.new_empty(value.shape)


@sample_backward.register_fake
def _(
    grad_out: Tensor, value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in (value, offsets, logits))


def _keep_inputs(ctx, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.kernel_size = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    return *sample_backward(grad_out, *ctx.saved_tensors, ctx.kernel_size), None


sample.register_autograd(_gradients, setup_context=_keep_inputs)


@register_flop_formula(torch.ops.dense_mixers.dcnv3)
def _flops(value_shape, offsets_shape, logits_shape, kernel_size, *_, out_shape=None, **__) -> int:
    """Count four products for the corners of each sample and one for its weight, and their sums."""
    return 2 * 5 * value_shape.numel() * kernel_size**2


def check_shapes(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> None:
    """Check the shapes; the compiled code does no bounds checks.

    Raises:
        BackboneError: the shapes are not those that `dcnv3` expects.
    """
    expected = (*value.shape[:4], kernel_size**2)
    if value.dim() != 5 or logits.shape != expected or offsets.shape != (*expected, 2):
        raise BackboneError(
            f'dcnv3: shapes of value {tuple(value.shape)}, offsets {tuple(offsets.shape)} and logits '
            f'{tuple(logits.shape)} do not match; expected (B, H, W, heads, D), '
            f'(B, H, W, heads, {kernel_size**2}, 2) and (B, H, W, heads, {kernel_size**2})'
        )


@torch.compiler.assume_constant_result
def implementation(device: str, dtype: torch.dtype) -> str:
    """Return `numba`, `triton` or `reference`; see `implementation_of`."""
    return implementation_of(*OPERATOR, device, dtype)


def _kernels(device: str) -> ModuleType | None:
    return fast_path(device, *OPERATOR)
