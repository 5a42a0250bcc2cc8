"""UperNet with PVTv2-B2 on ADE20K, 160k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.original_pvt_v2 import original_pvt_v2_b2 as backbone
    from ._base_.upernet_ade20k_160k import *

contestant = dict(name='original_pvt_v2_b2', family='original', mixer='pvt', scale='tiny')
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
del backbone
