"""Networks of timm as backbones with feature maps at strides 4, 8, 16 and 32, and as classifiers."""

from backbones.timm.backbone import TimmBackbone
from backbones.timm.classifier import TimmClassifier

__all__ = ['TimmBackbone', 'TimmClassifier']
