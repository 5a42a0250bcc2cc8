"""Backbones under test, registered in mmengine's root registry.

Importing this package also makes the OpenMMLab libraries usable if mmcv has no compiled operators,
and makes mmengine read checkpoints without running any code in them.
"""

import backbones.mmcv_ops as mmcv_ops

mmcv_ops.install()

from backbones.checkpoint import install_safe_loading  # noqa: E402
from backbones.errors import BackboneError, DamagedFileError  # noqa: E402
from backbones.layer_decay import LayerDecayConstructor  # noqa: E402
from backbones.mixers import MIXERS, PAPER_MIXERS, TokenMixer  # noqa: E402
from backbones.released_decay import ReleasedDecayConstructor  # noqa: E402
from backbones.timm import TimmBackbone, TimmClassifier  # noqa: E402
from backbones.unified import UnifiedBackbone, UnifiedClassifier  # noqa: E402

install_safe_loading()

__all__ = [
    'MIXERS',
    'PAPER_MIXERS',
    'BackboneError',
    'DamagedFileError',
    'LayerDecayConstructor',
    'ReleasedDecayConstructor',
    'TimmBackbone',
    'TimmClassifier',
    'TokenMixer',
    'UnifiedBackbone',
    'UnifiedClassifier',
]
