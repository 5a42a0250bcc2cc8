"""COCO's average precision from matches, which are found image by image and take little space.

Which detections of an image hit which of its objects, and at which overlap, is all that the precision
over many images depends on.
"""

from collections.abc import Mapping

import numpy as np

from evaluation.analysis.tasks.objects import Detections, Objects
from evaluation.metrics.average_precision.detections import sides_of
from evaluation.metrics.average_precision.matching import (
    OVERLAPS,
    RECALLS,
    best_of_each_class,
    match_image,
    overlaps_of,
)
from evaluation.metrics.average_precision.resampled import precision_sums, ranked


def match(truth: Objects, found: Detections, kind: str) -> dict[str, np.ndarray]:
    """Match the detections of an image with its objects.

    Args:
        truth: what is there.
        found: what a detector found.
        kind: `bbox` or `segm`.

    Returns:
        `labels` (D,) and `scores` (D,) of the detections, by class and then by falling score, `hits`
        (D,) and `ignored` (D,), a bit for each overlap, and `truths`, the labels of the objects that
        count, no crowds.
    """
    kept = best_of_each_class(found.labels, found.scores)
    if kind == 'bbox':
        detected = np.array(sides_of(found.boxes)).reshape(-1, 4)[kept]
        present = np.array(sides_of(truth.boxes)).reshape(-1, 4)
    else:
        detected, present = [found.masks[index] for index in kept], truth.codes()
    crowd = np.asarray(truth.crowd, np.bool_)
    labels = found.labels[kept]
    hits, ignored, _ = match_image(
        overlaps_of(detected, present, crowd),
        labels.astype(np.int64),
        truth.labels.astype(np.int64),
        crowd,
        np.zeros((1, len(kept)), np.bool_),
        np.zeros((1, len(crowd)), np.bool_),
        OVERLAPS,
    )
    return {
        'labels': labels.astype(np.int16),
        'scores': found.scores[kept].astype(np.float32),
        'hits': hits[:, 0],
        'ignored': ignored[:, 0],
        'truths': truth.labels[~crowd].astype(np.int16),
    }


def average_precision(matches: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean precision over recalls and classes at each overlap, (overlaps,), fractions.

    Args:
        matches: of many images, put one after another.

    Returns:
        NaN where no object counts.
    """
    labels, truths = (matches[name].astype(np.int64) for name in ('labels', 'truths'))
    classes = 1 + max(labels.max(initial=-1), truths.max(initial=-1))
    whole = np.zeros(len(labels), np.int64)
    order, starts, tied = ranked(labels, matches['scores'], whole, classes)
    precisions = precision_sums(
        whole,
        starts,
        tied,
        matches['hits'][order],
        matches['ignored'][order],
        np.bincount(truths, minlength=classes),
        np.ones(1, np.int64),
        RECALLS,
        len(OVERLAPS),
    )
    present = precisions[~np.isnan(precisions[:, 0])]
    return present.mean(0) if len(present) else np.full(len(OVERLAPS), np.nan)
