"""Files in the layouts of the released checkpoints, built from their names and shapes."""

import argparse
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.commands import ROOT
from tests.data.fill import fill
from tests.variants import VARIANTS

RELEASED = json.loads((ROOT / 'tests/data/released_names.json').read_text())
CLASSIFIER_ONLY = ('stage_norms.', 'conv_head.', 'head.')
Shapes = dict[str, tuple[int, ...]]


def filled(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.as_tensor(fill(name, shape)) for name, shape in shapes.items()}


def without_values(shapes: Shapes) -> dict[str, Tensor]:
    """Return expanded one-element tensors, for checks of names and shapes only."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}


def classifier_shapes(variant: str) -> Shapes:
    """Return the shapes of a released ImageNet checkpoint, such as `dcn_tiny`."""
    return {name: tuple(shape) for name, shape in RELEASED[variant]['parameters'].items()}


def dense_shapes(variant: str) -> Shapes:
    """Return the shapes of a released detector's backbone, with output norms and no classifier."""
    kept = {
        name: shape
        for name, shape in classifier_shapes(variant).items()
        if not name.startswith(CLASSIFIER_ONLY)
    }
    dims = VARIANTS[variant]['dims']
    return kept | {
        f'out_norm_{stage}.{leaf}': (dims[stage],) for stage in range(4) for leaf in ('weight', 'bias')
    }


def mask_rcnn_shapes(
    variant: str, channels: int = 256, hidden: int = 1024, classes: int = 80, mask_convs: int = 4
) -> Shapes:
    """Return the shapes of a released Mask R-CNN with neck and heads, under the names of mmdet 2."""
    anchors = 3
    layers = {
        **{
            f'neck.lateral_convs.{i}.conv': (channels, d, 1, 1)
            for i, d in enumerate(VARIANTS[variant]['dims'])
        },
        **{f'neck.fpn_convs.{i}.conv': (channels, channels, 3, 3) for i in range(4)},
        'rpn_head.rpn_conv': (channels, channels, 3, 3),
        'rpn_head.rpn_cls': (anchors, channels, 1, 1),
        'rpn_head.rpn_reg': (4 * anchors, channels, 1, 1),
        'roi_head.bbox_head.fc_cls': (classes + 1, hidden),
        'roi_head.bbox_head.fc_reg': (4 * classes, hidden),
        'roi_head.bbox_head.shared_fcs.0': (hidden, 49 * channels),
        'roi_head.bbox_head.shared_fcs.1': (hidden, hidden),
        **{f'roi_head.mask_head.convs.{i}.conv': (channels, channels, 3, 3) for i in range(mask_convs)},
        'roi_head.mask_head.upsample': (channels, channels, 2, 2),
        'roi_head.mask_head.conv_logits': (classes, channels, 1, 1),
    }
    biases = {f'{name}.bias': (shape[0],) for name, shape in layers.items()}
    weights = {f'{name}.weight': shape for name, shape in layers.items()}
    backbone = {f'backbone.{name}': shape for name, shape in dense_shapes(variant).items()}
    return {**backbone, **weights, **biases}


def imagenet_file(weights: Mapping[str, Tensor]) -> dict:
    """Return weights in the layout of a released ImageNet checkpoint."""
    return {
        'model': weights,
        'optimizer': {
            'state': {0: {'step': 1, 'exp_avg': torch.zeros(1)}},
            'param_groups': [{'lr': 0.0}],
        },
        'epoch': 299,
        'scaler': {'scale': 1.0},
        'args': argparse.Namespace(lr=1e-3, output_dir='out'),
    }


def detector_file(weights: Mapping[str, Tensor]) -> dict:
    """Return weights in the layout of a detector checkpoint of mmdet 2."""
    return {
        'meta': {'epoch': 12, 'iter': 87960, 'mmdet_version': '2.28.0', 'config': 'a = 1'},
        'state_dict': weights,
        'optimizer': {'state': {}, 'param_groups': [{'lr': 0.0}]},
    }
