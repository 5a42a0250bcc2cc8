"""Mask R-CNN with large depthwise convolution, tiny, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.replk import replk_tiny as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='replk_tiny', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
