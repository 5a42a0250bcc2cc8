"""Mask R-CNN with the original ConvNeXt, tiny, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_convnext import original_convnext_tiny as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='original_convnext_tiny', family='original', mixer='convnext', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=[96, 192, 384, 768]))
del backbone
