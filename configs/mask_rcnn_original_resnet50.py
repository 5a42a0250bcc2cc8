"""Mask R-CNN with ResNet-50 on COCO, 1x."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_resnet import original_resnet50 as backbone
    from ._base_.mask_rcnn_coco_1x import *

contestant = dict(name='original_resnet50', family='original')
model.update(backbone=backbone, neck=dict(in_channels=[256, 512, 1024, 2048]))
del backbone
