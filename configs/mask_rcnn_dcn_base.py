"""Mask R-CNN with deformable convolution v3, base, on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.dcn import dcn_base as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='dcn_base', scale='base')
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
