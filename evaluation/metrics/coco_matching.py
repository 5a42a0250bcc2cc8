"""COCO's matching of detections to objects (Lin et al., arXiv 1405.0312), one image at a time.

pycocotools keeps its matches as Python lists for each image, class and area range, which takes gigabytes
for a data set. The fast evaluator does not return its matches.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from pycocotools import mask as coco_mask

Function = TypeVar('Function', bound=Callable)


def compiled(function: Function) -> Function:
    """Compile a function with numba at its first call, and cache the code for later processes.

    If numba cannot be imported, the function stays uncompiled: slow, but the figures of a long training
    are not lost. Arithmetic is not reordered. The function must not call compiled functions of other
    files, since numba's cache does not notice changes to those files.
    """
    try:
        import numba
    except (ImportError, RuntimeError):
        return function
    try:
        return functools.wraps(function)(numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:
        # No cache folder is writable.
        return numba.njit(nogil=True)(function)


# Kinds of overlap: COCO's name, and the name in metrics of the suite.
KINDS = {'bbox': 'box', 'segm': 'mask'}
# Keys of shapes in COCO results format.
SHAPES = {'bbox': 'bbox', 'segm': 'segmentation'}
# COCO's parameters.
OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST_DETECTIONS = 100
# pycocotools stores the number of masks in a call in 8 bits.
MASKS_AT_ONCE = 255
AREAS = ('all', 'small', 'medium', 'large')
# In square pixels, both ends included.
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])


def outside_ranges(areas: np.ndarray) -> np.ndarray:
    """Return whether areas, (N,), lie outside each range, (ranges, N), bool."""
    return (areas < AREA_RANGES[:, :1]) | (areas > AREA_RANGES[:, 1:])


def best_of_each_class(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return indices of an image's detections that count, by class and then by descending score.

    Args:
        labels: (N,), class of each detection.
        scores: (N,), score of each detection.
    """
    order = np.argsort(-scores, kind='stable')
    order = order[np.argsort(labels[order], kind='stable')]
    ordered = labels[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[rank < MOST_DETECTIONS]


def overlaps_of(detected: Sequence, present: Sequence, crowd: np.ndarray) -> np.ndarray:
    """Return intersection over union, (D, G); for crowds, intersection over the detection's area.

    Args:
        detected: D detections, as boxes (left, top, width, height) or run-length codes.
        present: G objects of the same kind.
        crowd: (G,), bool, whether an object is a crowd.
    """
    if not len(detected) or not len(present):
        return np.zeros((len(detected), len(present)))
    flags = crowd.astype(np.uint8).tolist()
    starts = range(0, len(detected), MASKS_AT_ONCE)
    parts = [coco_mask.iou(detected[s : s + MASKS_AT_ONCE], present, flags) for s in starts]
    return np.concatenate(parts)


def mask_areas(codes: Sequence[dict]) -> np.ndarray:
    """Return the number of pixels of N run-length codes, (N,)."""
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
    """Match each detection to the unmatched object of its class with the largest overlap.

    Args:
        overlaps: (D, G), overlaps; detections of a class are in order of descending score.
        detected: (D,), class of each detection.
        present: (G,), class of each object.
        crowd: (G,), bool, whether an object is a crowd, which any number of detections may match; these
            detections do not count.
        outside_detected: (areas, D), bool, whether a detection lies outside an area range.
        outside_present: (areas, G), bool, whether an object does; such objects do not count.
        thresholds: (T,), minimum overlap of a match.

    Returns:
        Bits of the thresholds at which a detection matches, (D, areas), uint16, and at which it does not
        count, (D, areas), uint16; index of the object matched at the first threshold in the range of all
        areas, or -1, (D,).
    """
    detections, objects = overlaps.shape
    areas = outside_detected.shape[0]
    matched = np.zeros((detections, areas), np.uint16)
    ignored = np.zeros((detections, areas), np.uint16)
    first = np.full(detections, -1, np.int64)
    order = np.empty(objects, np.int64)
    for area in range(areas):
        # Objects that count come first, so they are preferred.
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
    """Convert predictions to COCO results format.

    Args:
        predictions: `img_id`, `bboxes` (N, 4) as corners in pixels, `scores` (N,), `labels` (N,) and,
            for `segm`, run-length encoded `masks` of each image.
        categories: category id of each label.
        kind: `bbox` or `segm`; `segm` omits the boxes, so that areas are computed from the masks.
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
    """Convert boxes, (N, 4), from left, top, right, bottom to left, top, width, height."""
    low, high = np.split(corners.astype(np.float64), 2, axis=1)
    return np.concatenate([low, high - low], axis=1).tolist()
