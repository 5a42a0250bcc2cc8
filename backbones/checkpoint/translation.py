"""Rename and reshape a checkpoint's weights to fit a model, and resize position tables."""

import math
import re

import torch.nn.functional as F
from torch import Tensor, nn

from backbones.checkpoint.names import released_name
from backbones.checkpoint.wrappers import unwrapped_name

# The suite computes these from the geometry; other implementations store them.
DERIVED = ('relative_position_index', 'attn_mask', 'rotations')
# Depthwise kernels of focal modulation.
FOCAL_KERNEL = re.compile(r'(^|\.)focal_layers\.\d+\.0\.weight$')


def translate_state_dict(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Load-state-dict pre-hook: rename and reshape the entries under `prefix` in place.

    Accepts the suite's own names and released names, both with or without prefixes of wrappers. Drops
    derived buffers, and resizes position tables of a different size.
    """
    own = module.state_dict()
    released = {released_name(name, module.mixer_name): name for name in own}
    for key in [k for k in state_dict if k.startswith(prefix)]:
        name = unwrapped_name(key[len(prefix) :])
        if name.rsplit('.', 1)[-1] in DERIVED:
            del state_dict[key]
            continue
        name = name if name in own else released.get(name, name)
        value = state_dict.pop(key)
        state_dict[prefix + name] = fit(value, name, own[name]) if name in own else value


def fit(value: Tensor, name: str, own: Tensor) -> Tensor:
    """Return `value` in the shape of `own` if it can be converted, else unchanged.

    Axes of length 1 are added or removed (layer scales, 1x1 convolutions as linear layers). Tables of
    relative positions are resized per head, bicubic for Swin and linear (align_corners=True) for Halo;
    absolute position embeddings are resized bilinearly (align_corners=True). Kernels of focal modulation
    that are smaller are padded with zeros, as its authors do for dense tasks.
    """
    if value.shape == own.shape:
        return value
    if [n for n in value.shape if n != 1] == [n for n in own.shape if n != 1]:
        return value.reshape(own.shape)
    leaf = name.rsplit('.', 1)[-1]
    is_square = math.isqrt(value.shape[0]) ** 2 == value.shape[0] if value.ndim else False
    if leaf == 'relative_position_bias_table' and is_square and value.shape[1:] == own.shape[1:]:
        return _resize_bias_table(value, own.shape[0])
    if leaf in ('height_rel', 'width_rel') and value.shape[1:] == own.shape[1:]:
        table = value.float().t()[None]
        resized = F.interpolate(table, own.shape[0], mode='linear', align_corners=True)
        return resized[0].t().to(value.dtype)
    if name.endswith('pos_embed.weight') and value.shape[:2] == own.shape[:2]:
        size = own.shape[2:]
        resized = F.interpolate(value.float(), size, mode='bilinear', align_corners=True)
        return resized.to(value.dtype)
    if FOCAL_KERNEL.search(name) and value.shape[:2] == own.shape[:2]:
        return _pad_kernel(value, own.shape[-1])
    return value


def _pad_kernel(kernel: Tensor, side: int) -> Tensor:
    """Pad (C, 1, K, K) with zeros on all sides -> (C, 1, side, side), if both sides are odd or even."""
    margin, rest = divmod(side - kernel.shape[-1], 2)
    is_square = kernel.shape[-1] == kernel.shape[-2]
    return F.pad(kernel, (margin,) * 4) if is_square and margin > 0 and rest == 0 else kernel


def _resize_bias_table(table: Tensor, rows: int) -> Tensor:
    """Resize (side ** 2, heads) -> (rows, heads); `rows` is a square too."""
    side, new_side = math.isqrt(table.shape[0]), math.isqrt(rows)
    square = table.float().t().view(1, -1, side, side)
    square = F.interpolate(square, (new_side, new_side), mode='bicubic', align_corners=False)
    return square.flatten(2)[0].t().to(table.dtype)
