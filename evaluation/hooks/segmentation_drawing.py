"""Drawing of segmentation maps during tests and validations."""

from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook

from evaluation.hooks.drawing import LoadedImages


@HOOKS.register_module()
class DrawSegmentations(SegVisualizationHook):
    """`SegVisualizationHook` that draws on images as they were loaded for the model."""

    def before_val(self, runner: Runner) -> None:
        """Draw on images of the validation set."""
        dataset = runner.val_dataloader.dataset
        self._visualizer = LoadedImages(runner.visualizer, dataset)

    def before_test(self, runner: Runner) -> None:
        """Draw on images of the test set."""
        dataset = runner.test_dataloader.dataset
        self._visualizer = LoadedImages(runner.visualizer, dataset)
