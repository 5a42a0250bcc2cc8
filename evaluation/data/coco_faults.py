"""Faults and oddities of single entries of a COCO annotation file, including masks.

An entry with a fault cannot be used: libraries fail on it or misread it. An entry with an oddity can be
used but is useless: mmdet skips it in training, and no detector can find it.
"""

import math
from collections.abc import Container, Iterable
from typing import Any, NamedTuple

import numpy as np

from evaluation.data.image_files import MOST_PIXELS, leads_out

NEEDED = dict.fromkeys(('id', 'image_id', 'category_id', 'bbox', 'area'))
# COCO's evaluation ignores larger objects.
LARGEST_AREA = 1e10
MALFORMED = 'malformed entries'
MISSING_MASKS = 'missing masks'
ID = 'an integer or a string'
# In pixels; no image side is this long.
FARTHEST = 10_000_000
# In pixels; rasterizing takes 40 bytes per pixel of an outline.
LONGEST_OUTLINE = 20_000_000
# Three points.
FEWEST_COORDINATES = 6
# Each character of a compressed code stands for 6 bits; character 48 stands for 0.
_ZERO, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5
# Libraries store ids as 64-bit integers.
LARGEST_ID = 2**63 - 1
# Maximum number of characters of a value in an error message.
LONGEST_QUOTE = 100


class Fault(NamedTuple):
    """Fault of an entry: its kind, and a text to print after the entry's name."""

    kind: str
    text: str


def image_fault(image: dict) -> Fault | None:
    """Return the fault that makes an entry of `images` unusable, if any."""
    if not is_id(image.get('id')):
        return Fault(MALFORMED, _lack(image, 'id', ID))
    name = image.get('file_name')
    if type(name) is not str:
        return Fault(MALFORMED, 'has no file_name')
    if not is_name(name):
        return Fault(MALFORMED, f'has the file_name {quoted(name)}, which is not a valid file name')
    if leads_out(name):
        return Fault(
            'file names that point outside the image folder',
            f'has the file_name {quoted(name)}, which points outside the image folder',
        )
    for side in ('height', 'width'):
        if type(image.get(side)) is not int or image[side] < 1:
            return Fault(MALFORMED, _lack(image, side, 'a positive integer'))
    if image['height'] * image['width'] > MOST_PIXELS:
        size = f'{quoted(image["width"])}x{quoted(image["height"])}'
        return Fault(
            'images with too many pixels',
            f'has {size} pixels, more than the limit of {MOST_PIXELS / 1e6:.0f} million',
        )
    return None


def _lack(entry: dict, key: str, expected: str) -> str:
    """Describe a missing or wrong value."""
    if entry.get(key) is None:
        return f'has no {key}'
    return f'has the {key} {quoted(entry[key])}, not {expected}'


def category_fault(category: dict) -> Fault | None:
    """Return the fault that makes an entry of `categories` unusable, if any."""
    if not is_id(category.get('id')):
        return Fault(MALFORMED, _lack(category, 'id', ID))
    if type(category.get('name')) is not str:
        return Fault(MALFORMED, 'has no name')
    if not is_name(category['name']):
        return Fault(MALFORMED, f'has the name {quoted(category["name"])}, which cannot be encoded')
    return None


def annotation_fault(
    annotation: dict,
    sizes: dict[int | str, tuple[int, int]],
    categories: Container[int | str],
    evaluated: bool,
    with_masks: bool = True,
) -> Fault | None:
    """Return the fault that makes an entry of `annotations` unusable, if any.

    Args:
        annotation: the entry.
        sizes: height and width of each image by its id.
        categories: ids of the categories.
        evaluated: whether pycocotools will evaluate on it, which needs `iscrowd`.
        with_masks: whether its `segmentation` will be used; otherwise it is not checked.
    """
    if not NEEDED.keys() <= annotation.keys() or (evaluated and 'iscrowd' not in annotation):
        missing = next(key for key in (*NEEDED, 'iscrowd') if key not in annotation)
        return Fault(MALFORMED, f'has no {missing}')
    for key in ('image_id', 'category_id'):
        if type(annotation[key]) is float:
            return Fault(MALFORMED, _lack(annotation, key, ID))
    image, category = annotation['image_id'], annotation['category_id']
    if not is_id(image) or image not in sizes:
        text = f'has image_id {quoted(image)}, which the file does not list'
        return Fault('annotations of unknown images', text)
    if not is_id(category) or category not in categories:
        text = f'has category_id {quoted(category)}, which the file does not list'
        return Fault('annotations of unknown categories', text)
    if not is_id(annotation['id']):
        return Fault(MALFORMED, _lack(annotation, 'id', ID))
    for key in ('iscrowd', 'ignore'):
        if type(annotation.get(key, 0)) not in (int, bool) or annotation.get(key, 0) not in (0, 1):
            return Fault(MALFORMED, f'has {key} {quoted(annotation[key])}, not 0 or 1')
    fault = _box_fault(annotation)
    if fault or not with_masks:
        return fault
    if not annotation.get('segmentation'):
        return Fault(MISSING_MASKS, 'has no segmentation')
    return _mask_fault(annotation['segmentation'], sizes[image], evaluated)


def annotation_oddity(annotation: dict, size: tuple[int, int], with_masks: bool = True) -> Fault | None:
    """Return the oddity of an entry of `annotations`, if any.

    Args:
        annotation: an entry without a fault.
        size: height and width of its image.
        with_masks: whether its `segmentation` will be used.
    """
    left, top, width, height = annotation['bbox']
    if width < 1 or height < 1:
        text = f'has the bbox {quoted(annotation["bbox"])}, less than one pixel wide or high'
        return Fault('boxes without area', text)
    if min(left + width, size[1]) <= max(left, 0) or min(top + height, size[0]) <= max(top, 0):
        text = f'has the bbox {quoted(annotation["bbox"])}, outside its image of {size[1]}x{size[0]}'
        return Fault('boxes outside the image', text)
    if annotation['area'] <= 0:
        return Fault('wrong areas', f'has the area {annotation["area"]}')
    mask = annotation['segmentation'] if with_masks else None
    if type(mask) is list and not any(map(is_usable, mask)):
        return Fault('masks without area', 'has no polygon with three or more points')
    return None


def _box_fault(annotation: dict) -> Fault | None:
    box, area = annotation['bbox'], annotation['area']
    if type(box) is not list or len(box) != 4 or not all_finite(box):
        return Fault('malformed boxes', f'has the bbox {quoted(box)}, not four finite numbers')
    if max(map(abs, box)) > FARTHEST:
        text = f'has the bbox {quoted(box)}, millions of pixels outside its image'
        return Fault('boxes outside the image', text)
    if not all_finite([area]):
        return Fault('wrong areas', f'has the area {quoted(area)}, not a finite number')
    if area > LARGEST_AREA:
        return Fault('wrong areas', f'has the area {quoted(area)}, larger than any image')
    return None


def _mask_fault(mask: Any, size: tuple[int, int], evaluated: bool) -> Fault | None:
    if type(mask) is dict:
        if is_run_length_code(mask, size):
            return None
        height, width = size
        text = f'has a segmentation that is not a run-length code of {height} rows, {width} columns'
        return Fault('run-length codes of a different size', text)
    if not polygons_are_drawable(mask):
        text = 'has a segmentation that is neither polygons nor a run-length code'
        return Fault('malformed masks', text)
    if evaluated and not can_be_evaluated(mask):
        text = 'has a polygon with an odd number of coordinates or fewer than three points'
        return Fault('malformed masks', text)
    return None


def polygons_are_drawable(polygons: Any) -> bool:
    """Return whether polygons are lists of finite numbers whose outlines fit into memory."""
    return (
        type(polygons) is list
        and bool(polygons)
        and all(type(polygon) is list and all_finite(polygon) for polygon in polygons)
        and all(_has_bounded_outline(polygon) for polygon in polygons if polygon)
    )


def is_usable(polygon: list[float]) -> bool:
    """Return whether a polygon has a y for every x, and at least three points."""
    return len(polygon) % 2 == 0 and len(polygon) >= FEWEST_COORDINATES


def can_be_evaluated(polygons: list[list[float]]) -> bool:
    """Return whether pycocotools can read polygons; it reads a single list of four numbers as a box.

    It fails on shorter lists, drops the last number of an odd count, and reads all lists as boxes if
    the first of several has four numbers.
    """
    return len(polygons) == len(polygons[0]) // 4 == 1 or all(map(is_usable, polygons))


def is_run_length_code(mask: Any, size: tuple[int, int]) -> bool:
    """Return whether a mask is a run-length code for an image of `size`, height and width.

    The check prevents out-of-bounds writes: decoders write as many pixels as the code says.
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
    """Return the run lengths of a compressed code, (N,), int64; None if the text is not a valid code.

    Each number is stored in groups of 5 bits, lowest first. From the fourth number on, the difference
    to the number two places before it is stored.
    """
    codes = np.frombuffer(counts.encode('utf-8', 'replace'), np.uint8).astype(np.int64) - _ZERO
    if not len(codes):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((codes & _MORE) == 0)
    if codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    # No number of pixels needs more bits.
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
    # No edge is longer than the range of the coordinates, so this bound is cheap and safe.
    if (greatest - least) * len(polygon) <= LONGEST_OUTLINE:
        return True
    points = np.asarray(polygon[: len(polygon) // 2 * 2], np.float64).reshape(-1, 2)
    edges = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1)
    return float(edges.sum()) <= LONGEST_OUTLINE


def all_finite(numbers: Iterable[Any]) -> bool:
    """Return whether all values are numbers, and none is NaN, infinite, or too large for a float."""
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
        return False


def is_id(value: Any) -> bool:
    """Return whether a value is a 64-bit integer or a string."""
    return type(value) is str or (type(value) is int and abs(value) <= LARGEST_ID)


def is_name(value: Any) -> bool:
    """Return whether a value is a string that can be printed and used as a file name."""
    if type(value) is not str or '\0' in value:
        return False
    try:
        value.encode()
    # JSON can hold unpaired surrogates.
    except UnicodeEncodeError:
        return False
    return True


def quoted(value: Any) -> str:
    """Return the `repr` of a value, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f'{text[:LONGEST_QUOTE]}...'
