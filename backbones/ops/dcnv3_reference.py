"""DCNv3's sampling in plain PyTorch, on any device and in any dtype."""

import torch
from torch import Tensor

from backbones.ops.sampling_reference import sampling_positions, weighted_samples


def forward(value: Tensor, offsets: Tensor, logits: Tensor, kernel_size: int) -> Tensor:
    """See `backbones.ops.dcnv3`. Differentiable.

    Computed in at least float32: half-precision coordinates would be off by whole pixels on large maps.
    """
    if not value.numel():
        # Empty, but every input has a gradient.
        return value + 0 * (offsets.sum() + logits.sum()).to(value.dtype)
    dtype = torch.promote_types(value.dtype, torch.float32)
    positions = sampling_positions(offsets.to(dtype), kernel_size)
    weights = logits.to(dtype).softmax(-1)
    return weighted_samples(value.to(dtype), positions, weights).to(value.dtype)
