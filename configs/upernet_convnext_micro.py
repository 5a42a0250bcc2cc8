"""UperNet with depthwise convolution, micro, on ADE20K, 160k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.convnext import convnext_micro as backbone
    from ._base_.upernet_ade20k_160k import *

contestant = dict(name='convnext_micro', scale='micro')
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=backbone.dims),
    auxiliary_head=dict(in_channels=backbone.dims[2]),
)
del backbone
