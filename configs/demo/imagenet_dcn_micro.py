"""Classification with deformable convolution v3, micro, on the generated shapes."""

from mmengine.config import read_base

with read_base():
    from .._base_.backbones.dcn import dcn_micro as backbone
    from .._base_.demo_imagenet import *

contestant = dict(name='dcn_micro', scale='micro')
backbone.update(type='UnifiedClassifier', drop_path_rate=0.0, num_classes=6)
model.update(backbone=backbone)
del backbone
