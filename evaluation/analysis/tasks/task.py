"""The task of a model, by what was built."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmseg.models import BaseSegmentor
from torch import nn

from evaluation.analysis.tasks.classification import Classification
from evaluation.analysis.tasks.detection import Detection
from evaluation.analysis.tasks.samples import Samples
from evaluation.analysis.tasks.segmentation import Segmentation
from evaluation.models.classifier import ImageClassifier
from evaluation.utils.errors import UserError


class Task(Protocol):
    """What an analysis needs of a task.

    Attributes:
        name: `classification`, `detection` or `segmentation`.
    """

    name: str

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """The images of the config's test data set, or so many, the first."""

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list:
        """Predictions for images.

        Args:
            model: in eval mode.
            images: each (H, W, 3), uint8, BGR, all of one size.
        """

    def measure(self, prediction: Any, truth: Any) -> dict[str, np.ndarray]:
        """Compare a prediction with the truth, in arrays that `combined` puts together."""

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Arrays of many images, in their order, as one."""

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Figures from combined arrays, in percent; NaN for one that nothing can be said of."""


def task_of(model: nn.Module) -> Task:
    """The task of a model.

    Raises:
        UserError: it is no classifier, detector or segmentor.
    """
    if isinstance(model, ImageClassifier):
        return Classification()
    if isinstance(model, BaseDetector):
        return Detection()
    if isinstance(model, BaseSegmentor):
        return Segmentation(model.num_classes)
    raise UserError(
        f'{type(model).__name__} is no ImageClassifier, detector of mmdet or segmentor of mmseg; '
        'give the config of one'
    )
