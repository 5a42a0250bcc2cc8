"""Depthwise convolution with kernels as large as the map.

There are three implementations: plain PyTorch (the reference), numba on the CPU, and Triton on CUDA.
"""

from types import ModuleType

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from backbones.errors import BackboneError
from backbones.ops import depthwise_reference
from backbones.ops.fast_paths import fast_path
from backbones.ops.linear import cast_once


class DepthwiseLayer(nn.Conv2d):
    """Depthwise `nn.Conv2d` with same-size output for maps with channels last, (B, H, W, C).

    Args:
        dim: number of channels C.
        kernel_size: side of the kernel; odd.
        bias: whether to add a bias.
    """

    def __init__(self, dim: int, kernel_size: int, bias: bool) -> None:
        super().__init__(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, (B, H, W, C) -> (B, H, W, C)."""
        return depthwise_convolution(cast_once(x), self.weight, self.bias)


def depthwise_convolution(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Correlate each channel of a zero-padded map with its own kernel.

    Differentiable any number of times; supports `torch.compile` and `torch.export`. Half precision is
    summed in float32; float64 always uses the reference. Rows are computed together, so a non-finite
    pixel may reach up to three rows more than the kernel. FLOPs are counted for all taps of the kernel,
    also for those that never meet a small map and are skipped. See `fast_paths` for the environment
    variables `DENSE_MIXERS_CPU` and `DENSE_MIXERS_CUDA`.

    Args:
        x: (B, H, W, C).
        weight: (C, 1, K, K), K odd; may have a more precise dtype than `x`.
        bias: (C,).

    Returns:
        (B, H, W, C), in the dtype of `x`.

    Raises:
        BackboneError: the shapes do not match, or an environment variable has an unknown value.
    """
    side = weight.shape[-1]
    expected = (x.shape[-1], 1, side, side)
    if x.dim() != 4 or weight.shape != expected or side % 2 == 0:
        raise BackboneError(
            f'depthwise_convolution: shapes of map {tuple(x.shape)} and weight {tuple(weight.shape)} '
            'do not match; expected (B, H, W, C) and (C, 1, K, K) with odd K'
        )
    return convolve(x, weight, bias)


@torch.library.custom_op('dense_mixers::depthwise_convolution', mutates_args=())
def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `depthwise_convolution` as one operator."""
    if not x.numel():
        return torch.empty_like(x, memory_format=torch.contiguous_format)
    return _implementation(x).forward(x, weight, bias)


@torch.library.custom_op('dense_mixers::depthwise_weight_gradient', mutates_args=())
def weight_gradient(x: Tensor, grad: Tensor, side: int) -> Tensor:
    """Return the gradient of the weight, (C, 1, side, side), in float32 or float64.

    Args:
        x, grad: input and output gradient, (B, H, W, C).
        side: side of the kernel.
    """
    if not x.numel():
        return x.new_zeros(x.shape[3], 1, side, side, dtype=_precise(x))
    return _implementation(x).weight_gradient(x, grad, side)


@convolve.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape)


@weight_gradient.register_fake
def _(x: Tensor, grad: Tensor, side: int) -> Tensor:
    return x.new_empty(x.shape[3], 1, side, side, dtype=_precise(x))


def _keep_inputs(ctx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, bias = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad
    grad_weight = weight_gradient(x, grad, weight.shape[-1]).to(weight.dtype) if needs_weight else None
    return (
        convolve(grad, weight.flip(2, 3), None) if needs_x else None,
        grad_weight,
        grad.sum((0, 1, 2), dtype=bias.dtype) if needs_bias else None,
    )


def _keep_maps(ctx, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _second_gradients(ctx, grad_weight: Tensor) -> tuple[Tensor, Tensor, None]:
    x, grad = ctx.saved_tensors
    return convolve(grad, grad_weight.flip(2, 3), None), convolve(x, grad_weight, None), None


convolve.register_autograd(_gradients, setup_context=_keep_inputs)
weight_gradient.register_autograd(_second_gradients, setup_context=_keep_maps)


@register_flop_formula(torch.ops.dense_mixers.depthwise_convolution)
def _flops(x_shape, weight_shape, *_, out_shape=None, **__) -> int:
    return 2 * x_shape.numel() * weight_shape[-1] ** 2


@register_flop_formula(torch.ops.dense_mixers.depthwise_weight_gradient)
def _gradient_flops(x_shape, grad_shape, side, *_, out_shape=None, **__) -> int:
    return 2 * x_shape.numel() * side**2


def _precise(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _implementation(x: Tensor) -> ModuleType:
    kernels = fast_path(x.device.type, 'depthwise', 'large depthwise convolution')
    return depthwise_reference if kernels is None or x.dtype == torch.float64 else kernels
