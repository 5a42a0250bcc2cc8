"""Large depthwise convolution (Ding et al., RepLKNet, arXiv 2203.06717, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbones.errors import BackboneError
from backbones.mixers.base import TokenMixer, odd_kernel_size
from backbones.ops.depthwise import DepthwiseLayer, depthwise_convolution
from backbones.ops.linear import cast_once

NORM_EPS = 1e-5
# Weights of a branch, in the order of `with_norm`.
BRANCH = ('conv.weight', 'bn.weight', 'bn.bias', 'bn.running_mean', 'bn.running_var')


class LargeKernelConvolution(TokenMixer):
    """Depthwise convolutions with a large and a small kernel, each followed by BatchNorm, and their sum.

    With fixed statistics, both branches are one convolution. In eval mode they are merged in every
    forward pass, which costs little and never goes out of date; weights and statistics still receive
    gradients. `merged=True` has only this one convolution, to load weights that were released merged; it
    also loads, and merges, weights of two branches.

    Args:
        dim: number of channels C.
        block_index: unused; all blocks are the same.
        kernel_size: side K of the large kernel, in tokens; odd. It may exceed the map.
        small_kernel: side of the small kernel; odd, at most K. None for no second branch.
        merged: whether to have one convolution with bias instead of two branches.

    Raises:
        BackboneError: a side is even, or the small kernel is larger than the large one.
    """

    def __init__(
        self,
        dim: int,
        block_index: int,
        *,
        kernel_size: int = 31,
        small_kernel: int | None = 5,
        merged: bool = False,
    ) -> None:
        super().__init__()
        odd_kernel_size(kernel_size)
        if small_kernel is not None and not (0 < small_kernel <= kernel_size and small_kernel % 2):
            raise BackboneError(
                f'small_kernel={small_kernel}: choose None or an odd number up to '
                f'kernel_size={kernel_size}'
            )
        self.merged = merged
        if merged:
            self.lkb_reparam = DepthwiseLayer(dim, kernel_size, bias=True)
        else:
            self.lkb_origin = NormalizedConvolution(dim, kernel_size)
            self.small_conv = None if small_kernel is None else NormalizedConvolution(dim, small_kernel)
        self.register_load_state_dict_pre_hook(merge_state_dict)

    def translate(self, weights: dict[str, Tensor], prefix: str) -> None:
        """Merge the branches under `prefix` in place for a merged mixer; see `merge_state_dict`."""
        merge_state_dict(self, weights, prefix)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, (B, H, W, C) -> (B, H, W, C)."""
        if self.merged:
            return self.lkb_reparam(x)
        branches = self.lkb_origin, self.small_conv
        # Batch norms may be in eval mode while the mixer is training.
        if not any(branch.bn.training for branch in branches if branch is not None):
            kernels = [None if branch is None else branch.merged() for branch in branches]
            return depthwise_convolution(cast_once(x), *merge(*kernels))
        out = self.lkb_origin(x)
        return out if self.small_conv is None else out + self.small_conv(x)


class NormalizedConvolution(nn.Module):
    """Depthwise convolution followed by BatchNorm, (B, H, W, C) -> (B, H, W, C).

    Args:
        dim: number of channels C.
        kernel_size: side of the kernel; odd.
    """

    def __init__(self, dim: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = DepthwiseLayer(dim, kernel_size, bias=False)
        self.bn = nn.BatchNorm2d(dim, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalize, (B, H, W, C) -> (B, H, W, C)."""
        return self.bn(self.conv(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the convolution that does the same with the running statistics."""
        bn = self.bn
        return with_norm(self.conv.weight, bn.weight, bn.bias, bn.running_mean, bn.running_var)


def with_norm(
    weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Merge a convolution and the BatchNorm after it, in float32 or better.

    Args:
        weight: (C, 1, K, K).
        scale, shift: weight and bias of the BatchNorm, (C,).
        mean, variance: its running statistics, (C,).

    Returns:
        Weight (C, 1, K, K) and bias (C,) of the merged convolution.
    """
    dtype = torch.promote_types(weight.dtype, torch.float32)
    weight, scale, shift, mean, variance = (
        tensor.to(dtype) for tensor in (weight, scale, shift, mean, variance)
    )
    scale = scale * (variance + NORM_EPS).rsqrt()
    return weight * scale[:, None, None, None], shift - mean * scale


def merge(large: tuple[Tensor, Tensor], small: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the sum of two convolutions with the same center."""
    if small is None:
        return large
    margin = (large[0].shape[-1] - small[0].shape[-1]) // 2
    return large[0] + F.pad(small[0], 4 * [margin]), large[1] + small[1]


def merge_state_dict(
    mixer: LargeKernelConvolution, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Load-state-dict pre-hook: merge the branches under `prefix` in place for a merged mixer.

    Raises:
        BackboneError: the weights are merged, but the mixer is not.
    """
    target = f'{prefix}lkb_reparam'
    if not mixer.merged:
        if f'{target}.weight' in state_dict:
            raise BackboneError(
                f'{target}: the weights are merged, which cannot be undone; '
                'set merged=True in the mixer, or load the weights from before merging'
            )
        return
    found = [_taken(state_dict, f'{prefix}{name}.') for name in ('lkb_origin', 'small_conv')]
    if found[0] is not None:
        state_dict[f'{target}.weight'], state_dict[f'{target}.bias'] = merge(*found)


def _taken(state_dict: dict[str, Tensor], prefix: str) -> tuple[Tensor, Tensor] | None:
    """Remove a branch from a state dict and return its merged weight and bias; None if absent."""
    names = [f'{prefix}{name}' for name in BRANCH]
    if not all(name in state_dict for name in names):
        return None
    state_dict.pop(f'{prefix}bn.num_batches_tracked', None)
    return with_norm(*(state_dict.pop(name) for name in names))
