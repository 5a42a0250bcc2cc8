"""Classification: the protocol of arXiv 2211.05781."""

import math
from collections.abc import Mapping

import numpy as np
from PIL import Image
from timm.data.transforms import str_to_interp_mode
from torchvision.transforms import functional as transforms

from evaluation.analysis.invariance.conditions import ROTATION, SCALE, Condition
from evaluation.analysis.invariance.warping import Color, warp_image
from evaluation.analysis.subject import Subject
from evaluation.analysis.tasks.classification import (
    CROSS_ENTROPY,
    IMAGES,
    log_probabilities,
    split_pipeline,
)
from evaluation.analysis.tasks.samples import Sample

CONSISTENCY = 'consistency'


class ClassificationComparison:
    """Translations move the window that is cut out; scales crop more or less of the image.

    Args:
        subject: a classifier.
        fill: colour of what the image does not have, BGR.
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
