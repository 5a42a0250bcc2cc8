"""COCO's average precision from matches, which are found image by image and take little space.

pycocotools matches the detections of an image with its objects; which of them hit at which overlap is
all that the precision over many images depends on.
"""

import contextlib
import io
from collections.abc import Mapping

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluation.analysis.tasks.objects import Detections, Objects
from evaluation.average_precision.detections import SHAPES, sides_of

# COCO's: thresholds of overlap, recalls, detections of a class in an image, any area.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = 100
AREAS = [0, 1e10]
_IMAGE = 1
_BITS = 1 << np.arange(len(OVERLAPS), dtype=np.uint16)


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
    codes = truth.codes()
    shapes = {'bbox': sides_of(truth.boxes), 'segm': codes}[kind]
    objects = [
        {'category_id': int(label), 'iscrowd': int(crowd), SHAPES[kind]: shape}
        for label, crowd, shape in zip(truth.labels, truth.crowd, shapes, strict=True)
    ]
    shapes = {'bbox': sides_of(found.boxes), 'segm': found.masks}[kind]
    detections = [
        {'category_id': int(label), 'score': float(score), SHAPES[kind]: shape}
        for label, score, shape in zip(found.labels, found.scores, shapes, strict=True)
    ]
    labels, scores, hits, ignored = [], [], [], []
    for each in _evaluated(objects, detections, truth.size, kind):
        count = len(each['dtScores'])
        labels.append(np.full(count, each['category_id'], np.int16))
        scores.append(np.asarray(each['dtScores'], np.float32))
        hits.append(_packed(each['dtMatches']))
        ignored.append(_packed(each['dtIgnore']))
    return {
        'labels': np.concatenate([np.zeros(0, np.int16), *labels]),
        'scores': np.concatenate([np.zeros(0, np.float32), *scores]),
        'hits': np.concatenate([np.zeros(0, np.uint16), *hits]),
        'ignored': np.concatenate([np.zeros(0, np.uint16), *ignored]),
        'truths': truth.labels[~truth.crowd].astype(np.int16),
    }


def average_precision(matches: Mapping[str, np.ndarray]) -> np.ndarray:
    """Mean precision over recalls and classes at each overlap, (overlaps,), fractions.

    Args:
        matches: of many images, put one after another.

    Returns:
        NaN where no object counts.
    """
    classes = np.unique(matches['truths'])
    if not len(classes):
        return np.full(len(OVERLAPS), np.nan)
    return np.mean([_of_class(matches, label) for label in classes], axis=0)


def _of_class(matches: Mapping[str, np.ndarray], label: int) -> np.ndarray:
    """Mean precision over recalls at each overlap, (overlaps,), of one class."""
    objects = int((matches['truths'] == label).sum())
    own = np.flatnonzero(matches['labels'] == label)
    own = own[np.argsort(-matches['scores'][own], kind='stable')]
    hits, ignored = (_unpacked(matches[name][own]) for name in ('hits', 'ignored'))
    precisions = np.zeros(len(OVERLAPS))
    for index in range(len(OVERLAPS)):
        right = np.cumsum(hits[:, index] & ~ignored[:, index])
        wrong = np.cumsum(~hits[:, index] & ~ignored[:, index])
        precision = right / np.maximum(right + wrong, 1)
        # The best that is reached at this recall or a higher one.
        best = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(right / objects, RECALLS, side='left')
        precisions[index] = np.append(best, 0.0)[np.minimum(places, len(best))].mean()
    return precisions


def _evaluated(objects: list[dict], detections: list[dict], size: tuple[int, int], kind: str):
    """What pycocotools says of each class that is there or is found."""
    present = sorted({entry['category_id'] for entry in (*objects, *detections)})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_dataset(objects, size), _dataset(detections, size), kind)
        evaluation.params.imgIds = [_IMAGE]
        evaluation.params.catIds = present
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.params.areaRng = [AREAS]
        evaluation.params.areaRngLbl = ['all']
        evaluation.evaluate()
    return [each for each in evaluation.evalImgs if each is not None]


def _dataset(entries: list[dict], size: tuple[int, int]) -> COCO:
    """Annotations of one image. Their areas are not looked at; a match with id 0 would be none."""
    height, width = size
    dataset = COCO()
    dataset.dataset = {
        'images': [{'id': _IMAGE, 'height': height, 'width': width}],
        'annotations': [
            {'iscrowd': 0, **entry, 'id': number, 'image_id': _IMAGE, 'area': 1.0}
            for number, entry in enumerate(entries, start=1)
        ],
        'categories': [{'id': label} for label in sorted({entry['category_id'] for entry in entries})],
    }
    dataset.createIndex()
    return dataset


def _packed(flags: np.ndarray) -> np.ndarray:
    """Flags (overlaps, D) as bits, (D,)."""
    return ((np.asarray(flags) != 0) * _BITS[:, None]).sum(0, dtype=np.uint16)


def _unpacked(bits: np.ndarray) -> np.ndarray:
    """The reverse, as (D, overlaps)."""
    return (bits[:, None] & _BITS) != 0
