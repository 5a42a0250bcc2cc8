"""How a task's images are changed, and what is compared: prediction with truth, and with that before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evaluation.analysis.invariance.classification import ClassificationComparison
from evaluation.analysis.invariance.conditions import Condition
from evaluation.analysis.invariance.dense import DetectionComparison, SegmentationComparison
from evaluation.analysis.subject import Subject
from evaluation.analysis.tasks.inputs import mean_color
from evaluation.analysis.tasks.samples import Sample

BLACK = (0, 0, 0)


@dataclass(frozen=True)
class Settings:
    """What is asked for.

    Attributes:
        conditions: changes of the images.
        fill: `mean` or `black`, what fills places that nothing comes to; None for the task's own.
        rotate: `before` or `after` a classifier's crop of the middle.
        reference_score: least score of the detections that others are compared with.
    """

    conditions: Sequence[Condition]
    fill: str | None
    rotate: str
    reference_score: float


class Comparison(Protocol):
    """How a task's images are changed and predictions compared.

    Attributes:
        shown: names of the metrics for figures and tables.
        facts: what results depend on beside the conditions, for messages and files.
    """

    shown: Sequence[str]
    facts: Mapping[str, Any]

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """The changed image, (H, W, 3), uint8, BGR."""

    def measure(
        self, sample: Sample, before: Any, condition: Condition, prediction: Any
    ) -> dict[str, np.ndarray]:
        """Compare a prediction with the truth and with that before the change.

        Args:
            sample: image and truth.
            before: prediction for the image as it is.
            condition: the change.
            prediction: for the changed image.
        """

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Figures from the arrays of all images; NaN for one that nothing can be said of."""


def comparison_of(subject: Subject, settings: Settings) -> Comparison:
    """The comparison of a subject's task."""
    is_classifier = subject.task.name == 'classification'
    fill = settings.fill or ('black' if is_classifier else 'mean')
    color = BLACK if fill == 'black' else mean_color(subject.cfg)
    if is_classifier:
        return ClassificationComparison(subject, color, rotate_first=settings.rotate == 'before')
    if subject.task.name == 'detection':
        return DetectionComparison(subject.task, color, settings.reference_score)
    return SegmentationComparison(subject.task, color)
