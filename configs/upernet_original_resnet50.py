"""UperNet with ResNet-50 on ADE20K, 160k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_resnet import original_resnet50 as backbone
    from ._base_.upernet_ade20k_160k import *

contestant = dict(name='original_resnet50', family='original')
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
del backbone
