"""Detection and segmentation: truth, and what was found before, are changed as the image is."""

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_mask

from evaluation.analysis.invariance.conditions import CONSISTENCY, Condition
from evaluation.analysis.invariance.warping import Color, warp_image, warp_labels, warp_objects
from evaluation.analysis.tasks.detection import Detection
from evaluation.analysis.tasks.objects import Detections, Objects, rectangle
from evaluation.analysis.tasks.samples import Sample
from evaluation.analysis.tasks.segmentation import Segmentation
from evaluation.metrics.average_precision.detections import KINDS
from evaluation.metrics.segmentation import IGNORED

AGREEING, SHARED = 'agreeing pixels', 'shared pixels'
BEFORE = 'before: '


class DetectionComparison:
    """AP with the truth, and with what was found before as the truth.

    Args:
        task: of the detector.
        fill: colour of what comes into view, BGR.
        reference_score: least score of what was found before; the rest is mostly noise.
    """

    shown = tuple(f'{kind} {name}' for name in ('AP', CONSISTENCY) for kind in KINDS.values())

    def __init__(self, task: Detection, fill: Color, reference_score: float) -> None:
        self._task = task
        self._fill = fill
        self._reference_score = reference_score
        self.facts = {'fill': list(fill), 'reference_score': reference_score}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """The changed image, (H, W, 3), uint8, BGR."""
        return warp_image(sample.image, condition, self._fill)

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


class SegmentationComparison:
    """mIoU with the truth, and pixels that agree with what was found before, where both have some.

    Args:
        task: of the segmentor.
        fill: colour of what comes into view, BGR.
    """

    shown = ('mIoU', CONSISTENCY)

    def __init__(self, task: Segmentation, fill: Color) -> None:
        self._task = task
        self._fill = fill
        self.facts = {'fill': list(fill)}

    def image(self, sample: Sample, condition: Condition) -> np.ndarray:
        """The changed image, (H, W, 3), uint8, BGR."""
        return warp_image(sample.image, condition, self._fill)

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
