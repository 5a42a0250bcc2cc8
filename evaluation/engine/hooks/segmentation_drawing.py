"""Drawing of segmentation maps during tests and validations."""

from mmengine.registry import HOOKS
from mmseg.engine.hooks import SegVisualizationHook

from evaluation.engine.hooks.drawing import DrawnAsLoaded


@HOOKS.register_module()
class DrawSegmentations(DrawnAsLoaded, SegVisualizationHook):
    """`SegVisualizationHook` that draws on images as they were loaded for the model."""
