"""Classification with deformable convolution v3, small, on ImageNet-1k, 300 epochs."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.dcn import dcn_small as backbone
    from ._base_.imagenet_1k_300e_batch4096 import *

contestant = dict(name='dcn_small', scale='small')
backbone.update(type='UnifiedClassifier', drop_path_rate=0.3)
model.update(backbone=backbone)
del backbone
