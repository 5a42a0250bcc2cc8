"""UperNet with the original Swin Transformer, tiny, on ADE20K, 160k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_swin import original_swin_tiny as backbone
    from ._base_.upernet_ade20k_160k import *

contestant = dict(name='original_swin_tiny', family='original', mixer='swin', scale='tiny')
backbone.update(drop_path_rate=0.3)
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
del backbone
