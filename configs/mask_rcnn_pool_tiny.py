"""Mask R-CNN with average pooling, tiny, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.pool import pool_tiny as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='pool_tiny', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
