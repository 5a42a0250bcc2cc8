"""Mask R-CNN with spatial-reduction attention, small, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.pvt import pvt_small as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='pvt_small', scale='small')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
