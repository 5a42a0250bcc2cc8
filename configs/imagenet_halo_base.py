"""Classification with halo attention, base, on ImageNet-1k, 300 epochs."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.halo import halo_base as backbone
    from ._base_.imagenet_1k_300e import *

contestant = dict(name='halo_base', scale='base')
backbone.update(type='UnifiedClassifier', drop_path_rate=0.5)
model.update(backbone=backbone)
del backbone
