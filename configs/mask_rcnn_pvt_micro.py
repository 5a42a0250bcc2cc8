"""Mask R-CNN with spatial-reduction attention, micro, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.pvt import pvt_micro as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='pvt_micro', scale='micro')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
