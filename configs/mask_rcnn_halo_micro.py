"""Mask R-CNN with halo attention, micro, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.halo import halo_micro as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='halo_micro', scale='micro')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
