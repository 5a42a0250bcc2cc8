"""Semantic FPN with deformable convolution v3, tiny, on ADE20K, 80k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.dcn import dcn_tiny as backbone
    from ._base_.semantic_fpn_ade20k_80k import *

contestant = dict(name='dcn_tiny', scale='tiny')
backbone.update(drop_path_rate=0.3)
model.update(backbone=backbone, neck=dict(in_channels=backbone.dims))
del backbone
