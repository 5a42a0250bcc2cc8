"""Draw predictions on images as the data set loads them, not as OpenMMLab's hooks read them again.

Those turn an image by its EXIF orientation, while predictions and truth are for the pixels as stored.
"""

from typing import Any

import numpy as np
from mmdet.engine.hooks import DetVisualizationHook
from mmengine.dataset import BaseDataset
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmseg.engine.hooks import SegVisualizationHook

from evaluation.data.image_loading import image_of


class LoadedImages:
    """Stand in for a visualizer; replace the images that it is given.

    Args:
        visualizer: draws.
        dataset: whose pipeline loads the images.
    """

    def __init__(self, visualizer: Visualizer, dataset: BaseDataset) -> None:
        self._visualizer = visualizer
        self._dataset = dataset

    def add_datasample(self, name: str, image: np.ndarray, data_sample: Any, **options: Any) -> None:
        """Draw a sample as `Visualizer.add_datasample` does, on the image at its `img_path`."""
        loaded = image_of(self._dataset, data_sample.img_path)
        self._visualizer.add_datasample(name, loaded, data_sample, **options)


class DrawnAsLoaded:
    """Mixin of a visualization hook: draw on images as they were loaded for the model."""

    def before_val(self, runner: Runner) -> None:
        """Draw on images of the validation set."""
        self._visualizer = LoadedImages(runner.visualizer, runner.val_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Draw on images of the test set."""
        self._visualizer = LoadedImages(runner.visualizer, runner.test_dataloader.dataset)


@HOOKS.register_module()
class DrawInstances(DrawnAsLoaded, DetVisualizationHook):
    """`DetVisualizationHook` that draws on images as they were loaded for the model."""


@HOOKS.register_module()
class DrawSegmentations(DrawnAsLoaded, SegVisualizationHook):
    """`SegVisualizationHook` that draws on images as they were loaded for the model."""
