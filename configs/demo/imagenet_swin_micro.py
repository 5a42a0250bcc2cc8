"""Classification with shifted window attention, micro, on the generated shapes."""

from mmengine.config import read_base

with read_base():
    from .._base_.backbones.swin import swin_micro as backbone
    from .._base_.demo_imagenet import *

contestant = dict(name='swin_micro', scale='micro')
backbone.update(type='UnifiedClassifier', drop_path_rate=0.0, num_classes=6)
model.update(backbone=backbone)
del backbone
