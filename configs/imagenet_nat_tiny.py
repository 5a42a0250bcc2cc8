"""Classification with neighborhood attention, tiny, on ImageNet-1k, 300 epochs."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.nat import nat_tiny as backbone
    from ._base_.imagenet_1k_300e import *

contestant = dict(name='nat_tiny', scale='tiny')
backbone.update(type='UnifiedClassifier', drop_path_rate=0.2)
model.update(backbone=backbone)
del backbone
