"""Cascade Mask R-CNN with spatial-reduction attention, tiny, on COCO, 3x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.pvt import pvt_tiny as backbone
    from ._base_.cascade_mask_rcnn_coco_3x import *

contestant = dict(name='pvt_tiny', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
