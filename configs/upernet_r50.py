"""Former name of `upernet_original_resnet50.py`; will be removed in the next version."""

from mmengine.config import read_base

with read_base():
    from .upernet_original_resnet50 import *

contestant = dict(name='original_resnet50', family='original')
