"""Mask R-CNN with PVTv2-B2 on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_pvt_v2 import original_pvt_v2_b2 as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='original_pvt_v2_b2', family='original', mixer='pvt', scale='tiny')
model.update(backbone=backbone, neck=dict(in_channels=[64, 128, 320, 512]))
del backbone
