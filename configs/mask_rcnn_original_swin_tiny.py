"""Mask R-CNN with the original Swin Transformer, tiny, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_swin import original_swin_tiny as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='original_swin_tiny', family='original', mixer='swin', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=[96, 192, 384, 768]))
del backbone
