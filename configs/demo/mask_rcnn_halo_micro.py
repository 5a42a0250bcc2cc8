"""Mask R-CNN with halo attention, micro, on the generated scenes."""

from mmengine.config import read_base

with read_base():
    from .._base_.backbones.halo import halo_micro as backbone
    from .._base_.demo_mask_rcnn import *

contestant = dict(name='halo_micro', scale='micro')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
