"""UperNet with the original ConvNeXt, tiny, on ADE20K, 160k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_convnext import original_convnext_tiny as backbone
    from ._base_.upernet_ade20k_160k import *

contestant = dict(name='original_convnext_tiny', family='original', mixer='convnext', scale='tiny')
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
del backbone
