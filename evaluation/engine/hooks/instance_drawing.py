"""Drawing of detections during tests and validations."""

from mmdet.engine.hooks import DetVisualizationHook
from mmengine.registry import HOOKS

from evaluation.engine.hooks.drawing import DrawnAsLoaded


@HOOKS.register_module()
class DrawInstances(DrawnAsLoaded, DetVisualizationHook):
    """`DetVisualizationHook` that draws on images as they were loaded for the model."""
