"""Adapters through which analyses see the models of a task."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Protocol

import numpy as np
from mmengine.config import Config
from torch import nn

from evaluation.analysis.tasks.samples import Samples
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError


class Adapter(Protocol):
    """What an analysis needs of a task.

    Attributes:
        name: in files and messages.
        is_cropped: whether images are corrupted after they are resized and cropped, not before.
        loss_takes_one: whether the loss that attacks raise takes one image at a time.
    """

    name: str
    is_cropped: bool
    loss_takes_one: bool

    @classmethod
    def of(cls, model: nn.Module) -> Optional['Adapter']:
        """Return the adapter of a model; None where it is of another task."""

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


def task_of(model: nn.Module) -> Adapter:
    """Return the adapter of the first task that a model is of.

    Raises:
        UserError: it is no classifier, detector or segmentor.
    """
    for task in TASKS.values():
        if adapter := task.analysis_adapter.of(model):
            return adapter
    raise UserError(
        f'{type(model).__name__} is no ImageClassifier, detector of mmdet or segmentor of mmseg; '
        'give the config of one'
    )
