"""Convolutions with fast weight gradients on the CPU.

oneDNN computes weight gradients of strided convolutions at a tenth to half the rate of a matrix product.
Those of large depthwise convolutions take ten times as long as the forward pass in float32 (measured
with AVX2), and sixty times in bfloat16 (with AVX-512).
"""

import math
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.ops.fast_paths import fast_path, is_fast
from backbones.ops.linear import cast_once, with_weight_gradient
from backbones.ops.tracing import is_traced

# Maximum elements of the unfolded map in memory at once: 4 MiB of float32, to stay in the cache.
UNFOLDED_NUMBERS = 2**20
# Minimum number of positions per chunk, since adding a gradient of wide weights to the sum is expensive.
FEWEST_PLACES = 512


class Convolution(nn.Conv2d):
    """`nn.Conv2d` for maps with channels last, (B, H, W, C) -> (B, H', W', C')."""

    def reset_parameters(self) -> None:
        """Initialize the weights in channels_last memory format, which saves a copy in every pass."""
        super().reset_parameters()
        if self.groups == 1:
            self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, (B, H, W, C) -> (B, H', W', C')."""
        # An image is channels-first in memory; then the output would be too, and norms would copy it.
        x = x.contiguous().permute(0, 3, 1, 2)
        if self._has_own_gradient(x):
            x, weight, bias = (cast_once(tensor) for tensor in (x, self.weight, self.bias))
            out = _Convolution.apply(x, weight, bias, self.stride, self.padding, self.groups)
        else:
            out = super().forward(x)
        return out.permute(0, 2, 3, 1)

    def _has_own_gradient(self, x: Tensor) -> bool:
        if is_traced():
            return False
        strided = self.groups == 1 and max(self.stride) > 1
        return (
            (strided or self._is_depthwise())
            and self.padding_mode == 'zeros'
            and self.dilation == (1, 1)
            and torch.is_grad_enabled()
            and self.weight.requires_grad
            and x.device.type == 'cpu'
            and self._dtype_has_own_gradient(x.dtype)
            and x.numel() > 0
            and is_fast('cpu')
        )

    def _dtype_has_own_gradient(self, dtype: torch.dtype) -> bool:
        """Return whether the convolution is in float32, or depthwise in bfloat16 under autocast."""
        if torch.is_autocast_enabled('cpu'):
            in_bfloat16 = torch.get_autocast_dtype('cpu') == torch.bfloat16
            return in_bfloat16 and dtype != torch.float64 and self._is_depthwise()
        return dtype == self.weight.dtype == torch.float32

    def _is_depthwise(self) -> bool:
        """Return whether this is depthwise, with stride 1, an odd square kernel and same-size output."""
        side = self.kernel_size[0]
        return (
            self.groups == self.in_channels == self.out_channels
            and self.stride == (1, 1)
            and self.kernel_size == (side, side)
            and self.padding == (side // 2, side // 2)
            and side % 2 == 1
            and _kernels() is not None
        )


class _Convolution(torch.autograd.Function):
    """Convolution with its own weight gradient; PyTorch does the forward pass and the input gradient."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        groups: int,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.geometry = stride, padding, groups
        return F.conv2d(x, weight, bias, stride, padding, groups=groups)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        stride, padding, groups = ctx.geometry
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        by_pytorch = torch.ops.aten.convolution_backward
        sizes = None if bias is None else list(bias.shape)
        rest = (sizes, stride, padding, (1, 1), False, (0, 0), groups)
        if torch.is_grad_enabled():
            # PyTorch's gradients can be differentiated again.
            wanted = (needs_x, needs_weight, needs_bias)
            return *by_pytorch(grad, x, weight, *rest, wanted), None, None, None
        grad_x, grad_weight = None, None
        if needs_x and groups > 1:
            # The same convolution with the kernel turned around; PyTorch's takes half as long again.
            grad_x = F.conv2d(grad, weight.flip(2, 3), None, stride, padding, groups=groups)
        elif needs_x:
            grad_x = by_pytorch(grad, x, weight, *rest, (True, False, False))[0]
        if needs_weight:
            maps = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
            if groups > 1:
                grad_weight = _kernels().depthwise_weight_gradient(*maps, weight.shape[-1])
                grad_weight = grad_weight.to(weight.dtype)
            else:
                grad_weight = by_unfolding(*maps, weight.shape[2:], stride, padding)
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if needs_bias else None, None, None, None


def by_unfolding(
    x: Tensor,
    grad: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """Compute the weight gradient of a convolution: output gradient times unfolded input windows.

    Args:
        x: input, (B, H, W, C).
        grad: output gradient, (B, H', W', C').
        kernel_size, stride, padding: (vertical, horizontal).

    Returns:
        (C', C, *kernel_size).
    """
    (high, wide), (down, across) = kernel_size, stride
    channels, out_channels = x.shape[3], grad.shape[3]
    height, width = grad.shape[1:3]
    x = F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    window, total = high * wide * channels, None
    places = max(FEWEST_PLACES, UNFOLDED_NUMBERS // window)
    rows = math.ceil(height / math.ceil(height * width / places))
    for x_image, grad_image in zip(x, grad, strict=True):
        for top in range(0, height, rows):
            grad_rows = grad_image[top : top + rows]
            below = (top + len(grad_rows) - 1) * down + high
            windows = x_image[top * down : below].unfold(0, high, down).unfold(1, wide, across)
            windows = windows[:, :width].permute(0, 1, 3, 4, 2).reshape(-1, window)
            total = with_weight_gradient(total, grad_rows.reshape(-1, out_channels), windows)
    return total.view(out_channels, high, wide, channels).permute(0, 3, 1, 2)


def _kernels() -> ModuleType | None:
    return fast_path('cpu', 'convolution', 'training')
