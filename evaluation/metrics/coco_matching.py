"""COCO's matching of detections with objects (Lin et al., arXiv 1405.0312), an image at a time.

pycocotools' own does this too, but keeps its matches as Python lists for each image, class and range of
areas, which take gigabytes for a data set; the fast evaluator does not give them out.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from pycocotools import mask as coco_mask

Function = TypeVar('Function', bound=Callable)


def compiled(function: Function) -> Function:
    """Have numba compile a function at its first call, and keep the code for the next process.

    Without numba, whose import fails on some machines, it is the function as it is: slow, but the
    figures of a long training are not lost for it. No arithmetic is reordered. The function must not
    call compiled ones of other files, of whose changes numba's store of compiled code would not know.
    """
    try:
        import numba
    except (ImportError, RuntimeError):
        return function
    try:
        return functools.wraps(function)(numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # No folder can be written.
        return numba.njit(nogil=True)(function)


# What overlap is measured of: COCO's word, and the suite's in the names of metrics.
KINDS = {'bbox': 'box', 'segm': 'mask'}
# Where COCO's results format has it.
SHAPES = {'bbox': 'bbox', 'segm': 'segmentation'}
# COCO's parameters.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = 100
# pycocotools counts the masks of a call in 8 bits.
MASKS_AT_ONCE = 255
AREAS = ('all', 'small', 'medium', 'large')
# In square pixels, both ends included.
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])


def outside_ranges(areas: np.ndarray) -> np.ndarray:
    """Whether each of (N,) areas lies outside of each range, (ranges, N), bool."""
    return (areas < AREA_RANGES[:, :1]) | (areas > AREA_RANGES[:, 1:])


def best_of_each_class(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Places of the detections of an image that count, by class and then by falling score.

    Args:
        labels: (N,), classes.
        scores: (N,).
    """
    order = np.argsort(-scores, kind='stable')
    order = order[np.argsort(labels[order], kind='stable')]
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[rank < MOST_DETECTIONS]


def overlaps_of(detected: Sequence, present: Sequence, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union (D, G); with a crowd, over the detection's own area.

    Args:
        detected: D boxes as left, top, width, height, or D run-length codes.
        present: G of the same kind.
        crowd: (G,), bool, objects that stand for many.
    """
    if not len(detected) or not len(present):
        return np.zeros((len(detected), len(present)))
    flags = crowd.astype(np.uint8).tolist()
    starts = range(0, len(detected), MASKS_AT_ONCE)
    parts = [coco_mask.iou(detected[s : s + MASKS_AT_ONCE], present, flags) for s in starts]
    return np.concatenate(parts)


def mask_areas(codes: Sequence[dict]) -> np.ndarray:
    """Pixels of each of N run-length codes, (N,)."""
    starts = range(0, len(codes), MASKS_AT_ONCE)
    parts = [coco_mask.area(codes[start : start + MASKS_AT_ONCE]) for start in starts]
    return np.concatenate([np.zeros(0), *parts])


@compiled
def match_image(
    overlaps: np.ndarray,
    detected: np.ndarray,
    present: np.ndarray,
    crowd: np.ndarray,
    outside_detected: np.ndarray,
    outside_present: np.ndarray,
    thresholds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Match each detection with the object of its class that it overlaps most and that is still free.

    Args:
        overlaps: (D, G), of detections, within a class by falling score, and objects.
        detected: (D,), classes.
        present: (G,), classes.
        crowd: (G,), bool, objects that stand for many: any number may match them, and none counts.
        outside_detected: (areas, D), bool, whether the area lies outside of a range.
        outside_present: (areas, G), likewise; such objects do not count.
        thresholds: (T,), least overlap of a match.

    Returns:
        Bits of the thresholds at which a detection matches (D, areas), uint16, and at which it does not
        count (D, areas), uint16; the object matched at the first threshold among all areas, -1 for
        none, (D,).
    """
    detections, objects = overlaps.shape
    areas = outside_detected.shape[0]
    matched = np.zeros((detections, areas), np.uint16)
    ignored = np.zeros((detections, areas), np.uint16)
    first = np.full(detections, -1, np.int64)
    order = np.empty(objects, np.int64)
    for area in range(areas):
        # Objects that count come first, so that they are preferred.
        place = 0
        for wanted in (False, True):
            for g in range(objects):
                if (crowd[g] or outside_present[area, g]) == wanted:
                    order[place] = g
                    place += 1
        for t in range(len(thresholds)):
            taken = np.zeros(objects, np.bool_)
            for d in range(detections):
                best, match = min(thresholds[t], 1 - 1e-10), -1
                for place in range(objects):
                    g = order[place]
                    if present[g] != detected[d] or (taken[g] and not crowd[g]):
                        continue
                    counts = not (crowd[g] or outside_present[area, g])
                    if match > -1 and not counts:
                        match_counts = not (crowd[match] or outside_present[area, match])
                        if match_counts:
                            break
                    if overlaps[d, g] < best:
                        continue
                    best, match = overlaps[d, g], g
                bit = np.uint16(1 << t)
                if match == -1:
                    if outside_detected[area, d]:
                        ignored[d, area] |= bit
                    continue
                taken[match] = True
                matched[d, area] |= bit
                if crowd[match] or outside_present[area, match]:
                    ignored[d, area] |= bit
                if area == 0 and t == 0:
                    first[d] = match
    return matched, ignored, first


def to_coco(predictions: Sequence[dict], categories: Sequence[int], kind: str) -> list[dict]:
    """Predictions in COCO's results format.

    Args:
        predictions: of each image `img_id`, `bboxes` (N, 4) as corners in pixels, `scores` (N,),
            `labels` (N,) and, for `segm`, run-length encoded `masks`.
        categories: category id of each label.
        kind: `bbox` or `segm`; masks come without boxes, so that their area is the mask's own.
    """
    name = SHAPES[kind]
    detections = []
    for prediction in predictions:
        shapes = sides_of(prediction['bboxes']) if kind == 'bbox' else prediction['masks']
        image, scores = prediction['img_id'], prediction['scores'].tolist()
        detections += [
            {'image_id': image, 'category_id': categories[label], 'score': score, name: shape}
            for label, score, shape in zip(prediction['labels'].tolist(), scores, shapes, strict=True)
        ]
    return detections


def sides_of(corners: np.ndarray) -> list[list[float]]:
    """Left, top, width and height of boxes (N, 4) given by left, top, right, bottom."""
    low, high = np.split(corners.astype(np.float64), 2, axis=1)
    return np.concatenate([low, high - low], axis=1).tolist()
