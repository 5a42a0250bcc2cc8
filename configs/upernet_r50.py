"""Baseline: UperNet with ResNet-50 on ADE20K, 160k iterations, same recipe as the unified backbones."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.resnet import r50 as backbone
    from ._base_.upernet_ade20k_160k import *

contestant = dict(name='r50')
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
del backbone
