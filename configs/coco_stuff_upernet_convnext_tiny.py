"""UperNet with depthwise convolution, tiny, on COCO-Stuff 164k, 80k iterations."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.convnext import convnext_tiny as backbone
    from ._base_.upernet_coco_stuff164k_80k import *

contestant = dict(name='convnext_tiny', scale='tiny')
backbone.update(drop_path_rate=0.3)
model.update(
    backbone=backbone,
    decode_head=dict(in_channels=backbone.dims),
    auxiliary_head=dict(in_channels=backbone.dims[2]),
)
del backbone
