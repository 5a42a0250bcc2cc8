"""Recognize a published mixer and scale by the names and shapes of weights."""

import re
from collections.abc import Mapping

from torch import Tensor

# Part of a parameter name that only this mixer has, in both the suite's and the released names. The
# order matters: dcn also has a depthwise convolution. Pooling has no parameters.
MARKS = {
    'halo': r'\.height_rel$',
    'swin': r'\.relative_position_bias_table$',
    'dcn': r'\.sampling_offsets\.',
    'nat': r'\.rpb$',
    'ss2d': r'\.A_logs$',
    'linear_attention': r'\.qk\.',
    'dcnv4': r'\.offset_mask\.',
    'replk': r'\.(lkb_origin|lkb_reparam)\.',
    'focal': r'\.focal_layers\.',
    'agent': r'\.an_bias$',
    'identity': r'\.affine\.',
    'pvt': r'\.sr\.',
    'convnext': r'\.(dwconv|mixer\.conv)\.',
}
# Channels of the first stage, and blocks in each stage (arXiv 2211.05781, table 2, and its code; for
# later mixers docs/mixers.md).
SCALES = {
    'halo': {
        'micro': (32, (2, 2, 9, 2)),
        'tiny': (96, (2, 2, 6, 2)),
        'small': (96, (2, 2, 18, 2)),
        'base': (128, (2, 2, 18, 2)),
    },
    'pvt': {
        'micro': (32, (2, 2, 3, 2)),
        'tiny': (64, (3, 4, 9, 3)),
        'small': (64, (3, 4, 21, 3)),
        'base': (64, (3, 8, 45, 3)),
    },
    'convnext': {
        'micro': (32, (3, 3, 8, 3)),
        'tiny': (96, (2, 2, 9, 2)),
        'small': (96, (2, 2, 24, 2)),
        'base': (128, (2, 2, 24, 2)),
    },
    'dcn': {
        'micro': (32, (2, 2, 9, 2)),
        'tiny': (64, (4, 4, 18, 4)),
        'small': (80, (4, 4, 21, 4)),
        'base': (112, (4, 4, 21, 4)),
    },
    'nat': {
        'micro': (32, (2, 2, 8, 2)),
        'tiny': (64, (3, 4, 22, 5)),
        'small': (96, (3, 4, 24, 4)),
        'base': (128, (3, 4, 24, 4)),
    },
    'ss2d': {
        'micro': (32, (3, 2, 8, 3)),
        'tiny': (96, (2, 2, 8, 2)),
        'small': (96, (2, 2, 21, 2)),
        'base': (128, (2, 2, 21, 2)),
    },
    'linear_attention': {
        'micro': (32, (2, 2, 12, 2)),
        'tiny': (96, (2, 2, 9, 2)),
        'small': (96, (2, 2, 23, 2)),
        'base': (128, (2, 2, 23, 2)),
    },
    'dcnv4': {
        'micro': (32, (2, 2, 9, 2)),
        'tiny': (64, (4, 4, 19, 4)),
        'small': (80, (4, 4, 23, 4)),
        'base': (112, (4, 4, 21, 4)),
    },
    'replk': {
        'micro': (32, (1, 2, 6, 3)),
        'tiny': (96, (2, 2, 6, 3)),
        'small': (96, (2, 2, 21, 3)),
        'base': (128, (2, 2, 22, 3)),
    },
    'focal': {
        'micro': (32, (2, 2, 8, 2)),
        'tiny': (96, (2, 2, 6, 2)),
        'small': (96, (2, 2, 18, 2)),
        'base': (128, (2, 2, 18, 2)),
    },
    'agent': {
        'micro': (32, (2, 2, 8, 2)),
        'tiny': (96, (2, 2, 6, 2)),
        'small': (96, (2, 2, 18, 2)),
        'base': (128, (2, 2, 18, 2)),
    },
}
SCALES['swin'] = SCALES['pool'] = SCALES['identity'] = SCALES['halo']


def recognize(weights: Mapping[str, Tensor]) -> str | None:
    """Return the mixer and scale of weights, such as `halo_small`; None if unknown.

    Args:
        weights: state dict of a backbone or classifier, in the suite's or the released names.
    """
    mixer, shape = mixer_of(weights), shape_of(weights)
    scales = SCALES.get(mixer, {})
    return next((f'{mixer}_{scale}' for scale, known in scales.items() if known == shape), None)


def describe(weights: Mapping[str, Tensor]) -> str | None:
    """Like `recognize`, but describe the shape if only the mixer is known."""
    mixer, shape = mixer_of(weights), shape_of(weights)
    if mixer is None or shape is None:
        return None
    return recognize(weights) or f'{mixer} with {shape[0]} channels and depths {list(shape[1])}'


def mixer_of(weights: Mapping[str, Tensor]) -> str | None:
    """Return the mixer that the names identify; None if unknown."""
    found = next((m for m, mark in MARKS.items() if any(re.search(mark, n) for n in weights)), None)
    is_unified = 'stages.0.0.layer_scale1.gamma' in weights
    if found is None and is_unified and not any('.mixer.' in name for name in weights):
        return 'pool'
    return found


def shape_of(weights: Mapping[str, Tensor]) -> tuple[int, tuple[int, ...]] | None:
    """Return the channels of the first stage and the number of blocks in each stage."""
    matches = [re.match(r'stages\.(\d+)\.(\d+)\.', name) for name in weights]
    blocks = {(int(match[1]), int(match[2])) for match in matches if match}
    first_norm = weights.get('stages.0.0.norm1.weight', weights.get('stages.0.0.dw_norm.weight'))
    if first_norm is None:
        return None
    stages = range(1 + max(stage for stage, _ in blocks))
    return len(first_norm), tuple(sum(s == stage for s, _ in blocks) for stage in stages)
