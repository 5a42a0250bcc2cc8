"""Change the images of each task, and compare predictions with the truth and with those before.

Detection and segmentation: truth, and what was found before, are changed as the image is. Classification
follows arXiv 2211.05781, or the code released with it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from timm.data.transforms import str_to_interp_mode
from torchvision.transforms import functional as transforms

from evaluation.analysis.adapter import Adapter, Sample, mean_color
from evaluation.analysis.classifiers import (
    CROSS_ENTROPY,
    IMAGES,
    Classification,
    log_probabilities,
    split_pipeline,
)
from evaluation.analysis.detectors import Detection, Detections, Objects, rectangle
from evaluation.analysis.invariance.conditions import CONSISTENCY, ROTATION, SCALE, Condition
from evaluation.analysis.invariance.warping import Color, warp_image, warp_labels, warp_objects
from evaluation.analysis.results import RELEASED, SUITE
from evaluation.analysis.subject import Subject
from evaluation.metrics.coco_matching import KINDS
from evaluation.metrics.mean_iou import IGNORED
from evaluation.utils.errors import UserError

AGREEING, SHARED = 'agreeing pixels', 'shared pixels'
BEFORE = 'before: '
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


class PredictionComparison(Protocol):
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


class _DenseComparison:
    """Truth, and what was found before, are changed as the image is.

    Args:
        task: of the model.
        fill: color of what comes into view, BGR.
    """

    def __init__(self, task: Adapter, fill: Color) -> None:
        self._task = task
        self._fill = fill
        self.facts = {'fill': list(fill)}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """The changed image, (H, W, 3), uint8, BGR."""
        return warp_image(sample.image, condition, self._fill)


class DetectionComparison(_DenseComparison):
    """AP with the truth, and with what was found before as the truth.

    Args:
        task: of the detector.
        fill: color of what comes into view, BGR.
        reference_score: least score of what was found before; the rest is mostly noise.
    """

    shown = tuple(f'{kind} {name}' for name in ('AP', CONSISTENCY) for kind in KINDS.values())

    def __init__(self, task: Detection, fill: Color, reference_score: float) -> None:
        super().__init__(task, fill)
        self._reference_score = self.facts['reference_score'] = reference_score

    def measure(
        self, sample: Sample, before: Detections, condition: Condition, prediction: Detections
    ) -> dict[str, np.ndarray]:
        """Matches with the truth and with what was found before, both changed as the image is."""
        affine = condition.affine(prediction.size)
        expected = as_objects(before, self._reference_score)
        with_truth = self._task.measure(prediction, warp_objects(sample.truth, affine))
        with_before = self._task.measure(prediction, warp_objects(expected, affine))
        return {**with_truth, **{BEFORE + name: array for name, array in with_before.items()}}

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """AP of boxes and of masks, with the truth and as `consistency`, in percent."""
        with_before = {
            name.removeprefix(BEFORE): array for name, array in arrays.items() if name.startswith(BEFORE)
        }
        consistency = {
            name.replace('AP', CONSISTENCY): value
            for name, value in self._task.metrics(with_before).items()
            if name.endswith('AP')
        }
        return {**self._task.metrics(arrays), **consistency}


class SegmentationComparison(_DenseComparison):
    """mIoU with the truth, and pixels that agree with what was found before, where both have some."""

    shown = ('mIoU', CONSISTENCY)

    def measure(
        self, sample: Sample, before: np.ndarray, condition: Condition, prediction: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Areas with the truth, and pixels as before of those that were in the image before."""
        affine = condition.affine(prediction.shape)
        in_view = warp_labels(np.zeros_like(before), affine) != IGNORED
        agrees = (warp_labels(before, affine) == prediction) & in_view
        return {
            **self._task.measure(prediction, warp_labels(sample.truth, affine)),
            AGREEING: agrees.sum(),
            SHARED: in_view.sum(),
        }

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`mIoU`, `aAcc` and `consistency` in percent."""
        shared = float(arrays[SHARED])
        agreeing = 100 * float(arrays[AGREEING]) / shared if shared else float('nan')
        return {**self._task.metrics(arrays), CONSISTENCY: agreeing}


def as_objects(found: Detections, least_score: float) -> Objects:
    """Detections of a score as if they were what is there; one without a mask has its box."""
    sure = np.flatnonzero(found.scores >= least_score)
    outlines = [
        found.masks[index] if found.masks and coco_mask.area(found.masks[index]) else [rectangle(box)]
        for index, box in zip(sure, found.boxes[sure], strict=True)
    ]
    return Objects(
        size=found.size,
        labels=found.labels[sure],
        boxes=found.boxes[sure],
        crowd=np.zeros(len(sure), bool),
        outlines=outlines,
    )


class ClassificationComparison:
    """Translations move the window that is cut out; scales crop more or less of the image.

    Args:
        subject: a classifier.
        fill: color of what the image does not have, BGR.
        rotate_first: whether to turn the image before its middle is cut out, and not after.
    """

    shown = ('top-1', CONSISTENCY)

    def __init__(self, subject: Subject, fill: Color, rotate_first: bool) -> None:
        self._task = subject.task
        self._fill = fill
        self._rotate_first = rotate_first
        pipeline = split_pipeline(subject.cfg)[1]
        self._side, self._crop_ratio = pipeline.input_size, pipeline.crop_pct
        self._interpolation = str_to_interp_mode(pipeline.interpolation)
        self.facts = {'fill': list(fill), 'rotate': 'before' if rotate_first else 'after'}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """The changed image, (side, side, 3), uint8, BGR."""
        if condition.transform == ROTATION and not self._rotate_first:
            return warp_image(sample.image, condition, self._fill)
        is_scale = condition.transform == SCALE
        whole = self._resized(sample.original, condition.strength if is_scale else self._crop_ratio)
        if condition.transform == ROTATION:
            whole = warp_image(whole, condition, self._fill)
        return window(whole, self._side, condition.shift, self._fill)

    def measure(
        self, sample: Sample, before: np.ndarray, condition: Condition, prediction: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Top-1 and top-5 of the truth, agreement with the guess before, and cross-entropy to it."""
        expected, found = log_probabilities(before), log_probabilities(prediction)
        return {
            **self._task.measure(prediction, sample.truth),
            CONSISTENCY: np.int64(prediction.argmax() == before.argmax()),
            CROSS_ENTROPY: -(np.exp(expected) * found).sum(),
        }

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`top-1`, `top-5` and `consistency` in percent, `cross-entropy` in nats."""
        agreeing = 100 * float(arrays[CONSISTENCY]) / float(arrays[IMAGES])
        return {**self._task.metrics(arrays), CONSISTENCY: agreeing}

    def _resized(self, image: np.ndarray, crop_ratio: float) -> np.ndarray:
        """The whole image with a shorter side of which the window is this share."""
        side = max(1, math.floor(self._side / crop_ratio))
        return np.asarray(transforms.resize(Image.fromarray(image), side, self._interpolation))


def window(image: np.ndarray, side: int, shift: tuple[int, int], fill: Color) -> np.ndarray:
    """The middle of an image (H, W, 3), which is moved by some pixels right and down before.

    Returns:
        (side, side, 3), `fill` where the image has nothing.
    """
    right, down = shift
    top, left = (_first(length, side) for length in image.shape[:2])
    rows, inner_rows = _overlap(top - down, side, image.shape[0])
    columns, inner_columns = _overlap(left - right, side, image.shape[1])
    result = np.empty((side, side, 3), np.uint8)
    result[:] = fill
    result[inner_rows, inner_columns] = image[rows, columns]
    return result


def _first(length: int, side: int) -> int:
    """Where torchvision's crop of the middle begins; below 0 where it pads."""
    return round((length - side) / 2) if length >= side else -((side - length) // 2)


def _overlap(first: int, side: int, length: int) -> tuple[slice, slice]:
    """What of a line a window has that begins at `first`: in the line, and in the window."""
    start, stop = (min(max(place, 0), length) for place in (first, first + side))
    return slice(start, stop), slice(start - first, stop - first)


class ReleasedComparison(ClassificationComparison):
    """A translation cuts a window at the border of the image and puts what is left in the middle.

    The release draws one of seven directions for each image. Here figures are means over all seven,
    which is what the draw gives on average.

    Args:
        subject: a classifier.
        rotate_first: whether to turn the image before its middle is cut out, and not after.
    """

    def __init__(self, subject: Subject, rotate_first: bool) -> None:
        super().__init__(subject, BLACK, rotate_first)
        self.facts = {**self.facts, 'protocol': RELEASED}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """The changed image, (side, side, 3), uint8, BGR."""
        is_scale = condition.transform == SCALE
        whole = self._resized(sample.original, condition.strength if is_scale else self._crop_ratio)
        if condition.transform not in (ROTATION, SCALE):
            return recentred_window(whole, self._side, condition.shift)
        picture = Image.fromarray(whole)
        turns = condition.transform == ROTATION
        if turns and self._rotate_first:
            picture = self._turned(picture, condition.strength)
        picture = transforms.center_crop(picture, self._side)
        if turns and not self._rotate_first:
            picture = self._turned(picture, condition.strength)
        return np.asarray(picture)

    def _turned(self, picture: Image.Image, degrees: float) -> Image.Image:
        return transforms.rotate(picture, degrees, transforms.InterpolationMode.BICUBIC)


def recentred_window(image: np.ndarray, side: int, shift: tuple[int, int]) -> np.ndarray:
    """Cut a moved window, limited to the image, and put it in the middle of black.

    Args:
        image: (H, W, 3), uint8.
        side: of the window, in pixels.
        shift: pixels right and down by which the content moves, before it is put in the middle.

    Returns:
        (side, side, 3).
    """
    right, down = shift
    rows = _kept(image.shape[0], side, down)
    columns = _kept(image.shape[1], side, right)
    strip = image[rows, columns]
    top, left = ((side - length) // 2 for length in strip.shape[:2])
    result = np.zeros((side, side, 3), np.uint8)
    result[top : top + strip.shape[0], left : left + strip.shape[1]] = strip
    return result


def _kept(length: int, side: int, move: int) -> slice:
    """What of a line a window has whose middle moves against the content, without what lies outside."""
    middle, half = length // 2 - move, side // 2
    first = min(max(middle - half, 0), length)
    return slice(first, max(min(middle + half, length), first))


def comparison_of(subject: Subject, settings: Settings) -> PredictionComparison:
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
