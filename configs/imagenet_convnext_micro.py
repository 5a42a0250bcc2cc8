"""Classification with depthwise convolution, micro, on ImageNet-1k, 300 epochs."""

from mmengine.config import read_base

with read_base():
    from ._base_.backbones.convnext import convnext_micro as backbone
    from ._base_.imagenet_1k_300e_batch4096 import *

contestant = dict(name='convnext_micro', scale='micro')
backbone.update(type='UnifiedClassifier', drop_path_rate=0.0)
model.update(backbone=backbone)
del backbone
