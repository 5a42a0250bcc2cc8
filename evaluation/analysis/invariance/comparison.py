"""How a task's images are changed, and what is compared: prediction with truth, and with that before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evaluation.analysis.invariance.classification import ClassificationComparison
from evaluation.analysis.invariance.conditions import Condition
from evaluation.analysis.invariance.dense import DetectionComparison, SegmentationComparison
from evaluation.analysis.invariance.released import ReleasedComparison
from evaluation.analysis.protocols import RELEASED, SUITE
from evaluation.analysis.subject import Subject
from evaluation.analysis.tasks.classification import Classification
from evaluation.analysis.tasks.detection import Detection
from evaluation.analysis.tasks.inputs import mean_color
from evaluation.analysis.tasks.samples import Sample
from evaluation.utils.errors import UserError

BLACK = (0, 0, 0)
REFERENCE_SCORE = 0.3


@dataclass(frozen=True)
class Settings:
    """What is asked for.

    Attributes:
        conditions: changes of the images.
        fill: `mean` or `black`, what fills places that nothing comes to; None for the task's own.
        rotate: `before` or `after` a classifier's crop of the middle; None for after it, and for others.
        reference_score: least score of the detections that others are compared with; None for
            `REFERENCE_SCORE`, and for other tasks.
        protocol: `suite`, or `released` for the views of the code released with arXiv 2211.05781.
    """

    conditions: Sequence[Condition]
    fill: str | None
    rotate: str | None
    reference_score: float | None
    protocol: str = SUITE


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
    """The comparison of a subject's task.

    Raises:
        UserError: a setting is of another task.
    """
    is_classifier = isinstance(subject.task, Classification)
    is_detector = isinstance(subject.task, Detection)
    if settings.rotate and not is_classifier:
        raise UserError(
            f'--rotate is of classifiers, and the model is of {subject.task.name}; leave it out'
        )
    if settings.reference_score is not None and not is_detector:
        raise UserError(
            f'--reference-score is of detectors, and the model is of {subject.task.name}; leave it out'
        )
    if settings.protocol == RELEASED:
        return _released(subject, settings)
    fill = settings.fill or ('black' if is_classifier else 'mean')
    color = BLACK if fill == 'black' else mean_color(subject.cfg)
    if is_classifier:
        return ClassificationComparison(subject, color, rotate_first=settings.rotate == 'before')
    if is_detector:
        score = REFERENCE_SCORE if settings.reference_score is None else settings.reference_score
        return DetectionComparison(subject.task, color, score)
    return SegmentationComparison(subject.task, color)


def _released(subject: Subject, settings: Settings) -> ReleasedComparison:
    if not isinstance(subject.task, Classification):
        raise UserError(
            f'--protocol {RELEASED} is of classifiers, and the model is of {subject.task.name}; '
            'leave it out'
        )
    if settings.fill == 'mean':
        raise UserError(f'--protocol {RELEASED} fills with black; leave out --fill mean')
    return ReleasedComparison(subject, rotate_first=settings.rotate == 'before')
