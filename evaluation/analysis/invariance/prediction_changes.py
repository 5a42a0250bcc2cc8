"""Comparison of predictions for changed images with the truth and with the original predictions.

For detection and segmentation, truth and original predictions are warped like the image. Classification
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
from evaluation.metrics.class_metrics import IGNORED
from evaluation.metrics.coco_matching import KINDS
from evaluation.utils.errors import UserError

AGREEING, SHARED = 'agreeing pixels', 'shared pixels'
BEFORE = 'before: '
BLACK = (0, 0, 0)
REFERENCE_SCORE = 0.3


@dataclass(frozen=True)
class Settings:
    """Settings of an analysis.

    Attributes:
        conditions: changes of the images.
        fill: color of empty areas, `mean` or `black`; None for the task's default.
        rotate: `before` or `after` a classifier's center crop; None for `after`, and for other tasks.
        reference_score: minimum score of the original detections to compare with; None for
            `REFERENCE_SCORE`, and for other tasks.
        protocol: `suite`, or `released` for the views of the code released with arXiv 2211.05781.
    """

    conditions: Sequence[Condition]
    fill: str | None
    rotate: str | None
    reference_score: float | None
    protocol: str = SUITE


class PredictionComparison(Protocol):
    """Interface for changing the images of a task and comparing predictions.

    Attributes:
        shown: names of the metrics for figures and tables.
        facts: settings besides the conditions that results depend on.
    """

    shown: Sequence[str]
    facts: Mapping[str, Any]

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """Return the changed image, (H, W, 3), uint8, BGR."""

    def measure(
        self, sample: Sample, before: Any, condition: Condition, prediction: Any
    ) -> dict[str, np.ndarray]:
        """Compare a prediction with the truth and with the original prediction.

        Args:
            sample: image and truth.
            before: prediction for the original image.
            condition: change of the image.
            prediction: prediction for the changed image.
        """

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return metrics from the arrays of all images; NaN if undefined."""


class _DenseComparison:
    """Base class for tasks whose truth and original predictions are warped like the image.

    Args:
        task: adapter for the model's task.
        fill: color of empty areas, BGR.
    """

    def __init__(self, task: Adapter, fill: Color) -> None:
        self._task = task
        self._fill = fill
        self.facts = {'fill': list(fill)}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """Return the changed image, (H, W, 3), uint8, BGR."""
        return warp_image(sample.image, condition, self._fill)


class DetectionComparison(_DenseComparison):
    """Comparison for detectors: AP with the truth, and with the original detections as the truth.

    Args:
        task: adapter for the detector's task.
        fill: color of empty areas, BGR.
        reference_score: minimum score of the original detections; the rest is mostly noise.
    """

    shown = tuple(f'{kind} {name}' for name in ('AP', CONSISTENCY) for kind in KINDS.values())

    def __init__(self, task: Detection, fill: Color, reference_score: float) -> None:
        super().__init__(task, fill)
        self._reference_score = self.facts['reference_score'] = reference_score

    def measure(
        self, sample: Sample, before: Detections, condition: Condition, prediction: Detections
    ) -> dict[str, np.ndarray]:
        """Return matches with the truth and with the original detections, both warped like the image."""
        affine = condition.affine(prediction.size)
        expected = as_objects(before, self._reference_score)
        with_truth = self._task.measure(prediction, warp_objects(sample.truth, affine))
        with_before = self._task.measure(prediction, warp_objects(expected, affine))
        return {**with_truth, **{BEFORE + name: array for name, array in with_before.items()}}

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return AP of boxes and masks, with the truth and as `consistency`, in percent."""
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
    """Comparison for segmentors: mIoU with the truth, and agreement with the original predictions."""

    shown = ('mIoU', CONSISTENCY)

    def measure(
        self, sample: Sample, before: np.ndarray, condition: Condition, prediction: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return areas with the truth, and agreeing pixels among those in view in both images."""
        affine = condition.affine(prediction.shape)
        in_view = warp_labels(np.zeros_like(before), affine) != IGNORED
        agrees = (warp_labels(before, affine) == prediction) & in_view
        return {
            **self._task.measure(prediction, warp_labels(sample.truth, affine)),
            AGREEING: agrees.sum(),
            SHARED: in_view.sum(),
        }

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return `mIoU`, `aAcc` and `consistency` in percent."""
        shared = float(arrays[SHARED])
        agreeing = 100 * float(arrays[AGREEING]) / shared if shared else float('nan')
        return {**self._task.metrics(arrays), CONSISTENCY: agreeing}


def as_objects(found: Detections, least_score: float) -> Objects:
    """Convert detections of a minimum score to objects; a detection without a mask uses its box."""
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
    """Comparison for classifiers: translations move the crop window, scales change the crop ratio.

    Args:
        subject: classifier and its test images.
        fill: color of empty areas, BGR.
        rotate_first: whether to rotate before the center crop instead of after it.
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
        """Return the changed image, (side, side, 3), uint8, BGR."""
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
        """Return top-1 and top-5 hits, and agreement and cross-entropy with the original prediction."""
        expected, found = log_probabilities(before), log_probabilities(prediction)
        return {
            **self._task.measure(prediction, sample.truth),
            CONSISTENCY: np.int64(prediction.argmax() == before.argmax()),
            CROSS_ENTROPY: -(np.exp(expected) * found).sum(),
        }

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return `top-1`, `top-5` and `consistency` in percent, `cross-entropy` in nats."""
        agreeing = 100 * float(arrays[CONSISTENCY]) / float(arrays[IMAGES])
        return {**self._task.metrics(arrays), CONSISTENCY: agreeing}

    def _resized(self, image: np.ndarray, crop_ratio: float) -> np.ndarray:
        """Resize the whole image so that the window is this share of its shorter side."""
        side = max(1, math.floor(self._side / crop_ratio))
        return np.asarray(transforms.resize(Image.fromarray(image), side, self._interpolation))


def window(image: np.ndarray, side: int, shift: tuple[int, int], fill: Color) -> np.ndarray:
    """Move an image (H, W, 3) by a shift, pixels right and down, and crop its center.

    Returns:
        (side, side, 3), with the color `fill` outside the image.
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
    """Return the start of torchvision's center crop; negative if it pads."""
    return round((length - side) / 2) if length >= side else -((side - length) // 2)


def _overlap(first: int, side: int, length: int) -> tuple[slice, slice]:
    """Return the overlap of a line with a window that starts at `first`, in line and window indices."""
    start, stop = (min(max(place, 0), length) for place in (first, first + side))
    return slice(start, stop), slice(start - first, stop - first)


class ReleasedComparison(ClassificationComparison):
    """Comparison with released views: windows are clipped to the image and then centered.

    The released code draws one of seven directions for each image. Here metrics are means over all
    seven, which equal the expected value of the draw.

    Args:
        subject: classifier and its test images.
        rotate_first: whether to rotate before the center crop instead of after it.
    """

    def __init__(self, subject: Subject, rotate_first: bool) -> None:
        super().__init__(subject, BLACK, rotate_first)
        self.facts = {**self.facts, 'protocol': RELEASED}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """Return the changed image, (side, side, 3), uint8, BGR."""
        is_scale = condition.transform == SCALE
        whole = self._resized(sample.original, condition.strength if is_scale else self._crop_ratio)
        if condition.transform not in (ROTATION, SCALE):
            return recentered_window(whole, self._side, condition.shift)
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


def recentered_window(image: np.ndarray, side: int, shift: tuple[int, int]) -> np.ndarray:
    """Crop a moved window, clipped to the image, and center it on black.

    Args:
        image: (H, W, 3), uint8.
        side: side of the window, in pixels.
        shift: shift of the content before centering, pixels right and down.

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
    """Return the part of a line inside a window whose center moves opposite to the content."""
    middle, half = length // 2 - move, side // 2
    first = min(max(middle - half, 0), length)
    return slice(first, max(min(middle + half, length), first))


def comparison_of(subject: Subject, settings: Settings) -> PredictionComparison:
    """Return the comparison for a subject's task.

    Raises:
        UserError: the task does not support a setting.
    """
    is_classifier = isinstance(subject.task, Classification)
    is_detector = isinstance(subject.task, Detection)
    if settings.rotate and not is_classifier:
        raise UserError(
            f'--rotate is only for classifiers, but the task of the model is {subject.task.name}; '
            'remove it'
        )
    if settings.reference_score is not None and not is_detector:
        raise UserError(
            f'--reference-score is only for detectors, but the task of the model is '
            f'{subject.task.name}; remove it'
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
            f'--protocol {RELEASED} is only for classifiers, but the task of the model is '
            f'{subject.task.name}; remove it'
        )
    if settings.fill == 'mean':
        raise UserError(f'--protocol {RELEASED} fills with black; remove --fill mean')
    return ReleasedComparison(subject, rotate_first=settings.rotate == 'before')
