"""Mask R-CNN with neighborhood attention, tiny, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.nat import nat_tiny as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='nat_tiny', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
