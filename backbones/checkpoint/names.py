"""Parameter names of the released checkpoints (github.com/OpenGVLab/STM-Evaluation).

The mixers that the suite added have the names of their public implementations. No other module knows
these names. A mixer in neither table only has the suite's names.
"""

import re
from collections.abc import Mapping

from torch import Tensor

RELEASED_TRUNK_NAMES = {
    r'stem\.conv1\.': 'downsample_layers.0.stem.0.',
    r'stem\.norm1\.': 'downsample_layers.0.stem.1.',
    r'stem\.conv2\.': 'downsample_layers.0.stem.3.',
    r'stem\.norm2\.': 'downsample_layers.0.stem.4.',
    r'downsamples\.0\.': 'downsample_layers.1.',
    r'downsamples\.1\.': 'downsample_layers.2.',
    r'downsamples\.2\.': 'downsample_layers.3.',
    r'(downsample_layers\.\d\.)conv\.': r'\1reduction.0.',
    r'(downsample_layers\.\d\.)norm\.': r'\1reduction.1.',
    r'out_norms\.(\d)\.': r'out_norm_\1.',
}

_ATTENTION = {'mixer.': 'attn.'}
RELEASED_BLOCK_NAMES = {
    'layer_scale1.gamma': 'gamma_1',
    'layer_scale2.gamma': 'gamma_2',
    'pos_embed.weight': 'pos_embed',
}
RELEASED_MIXER_NAMES = {
    'halo': {
        'mixer.height_rel': 'attn.pos_embed.height_rel',
        'mixer.width_rel': 'attn.pos_embed.width_rel',
        **_ATTENTION,
    },
    'pvt': _ATTENTION,
    'swin': _ATTENTION,
    'convnext': {
        'mixer.input_proj.': 'dw_input_proj.',
        'mixer.conv.': 'dwconv.',
        'mixer.output_proj.': 'dw_out_proj.',
        'norm1.': 'dw_norm.',
        'norm2.': 'pw_norm.',
        'mlp.fc1.': 'pwconv1.',
        'mlp.fc2.': 'pwconv2.',
    },
    'dcn': {
        'layer_scale1.gamma': 'gamma1',
        'layer_scale2.gamma': 'gamma2',
        'mixer.conv.': 'attn.dw_conv.0.',
        'mixer.norm.': 'attn.dw_conv.1.norm.',
        **_ATTENTION,
    },
}

# Start of a mixer's names in the public classifier that proposed it. Its blocks differ from the suite's,
# so these are the only weights that fit.
PUBLIC_MIXER_NAMES = {
    'nat': 'levels.{stage}.blocks.{block}.attn.',
    'ss2d': 'layers.{stage}.blocks.{block}.op.',
    'linear_attention': 'layers.{stage}.blocks.{block}.attn.',
    'dcnv4': 'levels.{stage}.blocks.{block}.dcn.',
    # Every second block is a convolutional MLP.
    'replk': 'stages.{stage}.blocks.{twice_block}.large_kernel.',
    'focal': 'layers.{stage}.blocks.{block}.modulation.',
    'agent': 'block{next_stage}.{block}.attn.',
    # Every second entry is a downsampling.
    'identity': 'network.{twice_stage}.{block}.token_mixer.',
}

# Indices that add the extra axes of length 1 in the released files, by suffix of the suite's name.
_CHANNELS_LAST, _CHANNELS_SECOND = (None, None, None, ...), (None, ..., None, None)
_POINTWISE = (..., None, None)
RELEASED_AXES = {
    'halo': {
        'layer_scale1.gamma': _CHANNELS_LAST,
        'layer_scale2.gamma': _CHANNELS_LAST,
        'mixer.kv.weight': _POINTWISE,
    },
    'convnext': {
        'layer_scale1.gamma': _CHANNELS_SECOND,
        'layer_scale2.gamma': _CHANNELS_LAST,
        'mixer.input_proj.weight': _POINTWISE,
        'mixer.output_proj.weight': _POINTWISE,
    },
}


def released_name(name: str, mixer: str) -> str:
    """Return the name in the released checkpoints for a parameter of the suite."""
    match = re.fullmatch(r'(stages\.(\d+)\.(\d+)\.)(.+)', name)
    if not match:
        for pattern, replacement in RELEASED_TRUNK_NAMES.items():
            name = re.sub(f'^{pattern}', replacement, name)
        return name
    block, *places, rest = match.groups()
    if mixer in PUBLIC_MIXER_NAMES and rest.startswith('mixer.'):
        return _public_start(mixer, *map(int, places)) + rest.removeprefix('mixer.')
    for own, released in {**RELEASED_BLOCK_NAMES, **RELEASED_MIXER_NAMES.get(mixer, {})}.items():
        if rest.startswith(own):
            return block + released + rest[len(own) :]
    return name


def _public_start(mixer: str, stage: int, block: int) -> str:
    return PUBLIC_MIXER_NAMES[mixer].format(
        stage=stage, next_stage=stage + 1, twice_stage=2 * stage, block=block, twice_block=2 * block
    )


def released_weights(weights: Mapping[str, Tensor], mixer: str) -> dict[str, Tensor]:
    """Convert a backbone's state dict to the released names and shapes."""
    found = {}
    for name, value in weights.items():
        axes = next(
            (a for end, a in RELEASED_AXES.get(mixer, {}).items() if name.endswith(f'.{end}')), None
        )
        found[released_name(name, mixer)] = value if axes is None else value[axes]
    return found
