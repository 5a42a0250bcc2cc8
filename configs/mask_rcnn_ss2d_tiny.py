"""Mask R-CNN with two-dimensional selective scan, tiny, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.ss2d import ss2d_tiny as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='ss2d_tiny', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
