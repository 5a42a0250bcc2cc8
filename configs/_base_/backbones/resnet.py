"""Former name of `original_resnet.py`; will be removed in the next version."""

from mmengine.config import read_base

with read_base():
    from .original_resnet import original_resnet50 as r50

contestants = dict(r50=dict(family='original'))
