"""COCO's evaluation by pycocotools, the reference."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluation.metrics.average_precision.evaluation import InstanceEvaluation, summary_lines


def evaluate_with_pycocotools(
    truth: COCO,
    detections: list[dict],
    images: Sequence[int | str],
    categories: Sequence[int | str],
    kind: str,
) -> InstanceEvaluation:
    """Evaluate as `InstanceEvaluator` says."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        found = truth.loadRes(detections) if detections else no_detections(truth)
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.imgIds = list(images)
        evaluation.params.catIds = list(categories)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # Its categories are in ascending order.
    place = np.searchsorted(np.unique(categories), categories)
    return InstanceEvaluation(
        evaluation.stats,
        evaluation.eval['precision'][:, :, place],
        summary_lines(printed.getvalue().splitlines()),
    )


def no_detections(truth: COCO) -> COCO:
    """A result without a single detection, which `COCO.loadRes` does not accept."""
    empty = COCO()
    empty.dataset = {**truth.dataset, 'annotations': []}
    empty.createIndex()
    return empty
