"""What every implementation of COCO's evaluation takes and gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pycocotools.coco import COCO


@dataclass(frozen=True)
class InstanceEvaluation:
    """What is found of one kind of overlap, boxes' or masks'.

    Attributes:
        statistics: (12,), fractions, -1 where there is no ground truth: AP, AP50, AP75, AP of small,
            medium and large objects, AR with 1, 10 and 100 detections an image, AR of small, medium
            and large objects.
        precision: (IoU thresholds 10, recalls 101, categories, areas 4, most detections 3), fractions,
            -1 where there is no ground truth. Areas are all, small, medium, large; most detections
            1, 10, 100 an image and category.
        summary: the twelve statistics as lines of text.
    """

    statistics: np.ndarray
    precision: np.ndarray
    summary: list[str]


class InstanceEvaluator(Protocol):
    """Compares detections with the truth as COCO's own evaluation does."""

    def __call__(
        self,
        truth: COCO,
        detections: list[dict],
        images: Sequence[int | str],
        categories: Sequence[int | str],
        kind: str,
    ) -> InstanceEvaluation:
        """Evaluate.

        Args:
            truth: ground truth of these images, and maybe of others, which are left out.
            detections: in COCO's results format; entries may be added to them.
            images: ids of the images that were looked at.
            categories: ids of the categories, in the order of the axis of `precision`; others are left
                out.
            kind: `bbox` or `segm`.
        """


def summary_lines(printed: Sequence[str]) -> list[str]:
    """Those of the printed lines that state a figure."""
    return [line for line in printed if ' = ' in line]
