"""UperNet with two-dimensional selective scan, tiny, on ADE20K, 160k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.ss2d import ss2d_tiny as backbone
    from ._base_.upernet_ade20k_160k import *

contestant = dict(name='ss2d_tiny', scale='tiny')
backbone.update(drop_path_rate=0.3)
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=backbone.dims),
    auxiliary_head=dict(in_channels=backbone.dims[2]),
)
del backbone
