"""Whether masks of COCO's format can be drawn in an image: polygons and run-length codes."""

from typing import Any

import numpy as np

from evaluation.data.image_files import MOST_PIXELS
from evaluation.data.plain_values import all_finite

# In pixels; no image has such a side.
FARTHEST = 10_000_000
# Rasterising takes 40 bytes a pixel of an outline.
LONGEST_OUTLINE = 20_000_000
# Three points.
FEWEST_COORDINATES = 6
# Characters of a compressed code stand for 6 bits each, from this one on.
_ZERO, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5


def polygons_are_drawable(polygons: Any) -> bool:
    """Whether these are lists of finite numbers whose outlines can be followed in memory."""
    return (
        type(polygons) is list
        and bool(polygons)
        and all(type(polygon) is list and all_finite(polygon) for polygon in polygons)
        and all(_has_bounded_outline(polygon) for polygon in polygons if polygon)
    )


def is_usable(polygon: list[float]) -> bool:
    """Whether a polygon has an x for every y, and three points or more."""
    return len(polygon) % 2 == 0 and len(polygon) >= FEWEST_COORDINATES


def can_be_evaluated(polygons: list[list[float]]) -> bool:
    """Whether pycocotools reads each as a polygon; it takes a single list of four numbers for a box.

    It fails on shorter ones, drops the last of an odd number, and reads a list of four numbers before
    others as if all were boxes.
    """
    return len(polygons) == len(polygons[0]) // 4 == 1 or all(map(is_usable, polygons))


def is_run_length_code(mask: Any, size: tuple[int, int]) -> bool:
    """Whether this is a run-length code of an image of `size`, height and width.

    Decoders write as many pixels as the code says, wherever they end.
    """
    if type(mask) is not dict or mask.get('size') != list(size):
        return False
    counts = mask.get('counts')
    if type(counts) is list:
        are_counts = set(map(type, counts)) <= {int} and min(counts, default=0) >= 0
        return are_counts and sum(counts) == size[0] * size[1]
    runs = decompressed(counts) if type(counts) is str else None
    return runs is not None and int(runs.min(initial=0)) >= 0 and int(runs.sum()) == size[0] * size[1]


def decompressed(counts: str) -> np.ndarray | None:
    """Lengths of runs from a compressed code, (N,), int64; None where the text is no such code.

    Each number is written in groups of 5 bits, the lowest first, and from the fourth on as the
    difference to the one before the last.
    """
    codes = np.frombuffer(counts.encode('utf-8', 'replace'), np.uint8).astype(np.int64) - _ZERO
    if not len(codes):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((codes & _MORE) == 0)
    if codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    # A number of pixels has no more bits.
    if lengths.max() * _BITS > MOST_PIXELS.bit_length() + _BITS + 1:
        return None
    shifts = _BITS * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & (_MORE - 1)) << shifts, starts)
    negative = (codes[ends] & _SIGN) > 0
    values -= np.where(negative, 1 << (_BITS * lengths), 0)
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values


def _has_bounded_outline(polygon: list[float]) -> bool:
    least, greatest = min(polygon), max(polygon)
    if least < -FARTHEST or greatest > FARTHEST:
        return False
    # No edge is longer than this side of the box around all points.
    if (greatest - least) * len(polygon) <= LONGEST_OUTLINE:
        return True
    points = np.asarray(polygon[: len(polygon) // 2 * 2], np.float64).reshape(-1, 2)
    edges = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1)
    return float(edges.sum()) <= LONGEST_OUTLINE
