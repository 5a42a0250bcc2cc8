"""Faults and oddities of single entries of a file in COCO's format, masks included.

With a fault an entry cannot be used: libraries fail on it, or read something else than it says. With an
oddity it can be used but does not count: mmdet leaves it out of a training, and no detector can find it.
"""

import math
from collections.abc import Container, Iterable
from typing import Any, NamedTuple

import numpy as np

from evaluation.data.image_files import MOST_PIXELS, leads_out

NEEDED = dict.fromkeys(('id', 'image_id', 'category_id', 'bbox', 'area'))
# COCO's evaluation leaves out whatever is larger.
LARGEST_AREA = 1e10
MALFORMED = 'malformed entries'
MISSING_MASKS = 'missing masks'
ID = 'a whole number or a text'
# In pixels; no image has such a side.
FARTHEST = 10_000_000
# Rasterising takes 40 bytes a pixel of an outline.
LONGEST_OUTLINE = 20_000_000
# Three points.
FEWEST_COORDINATES = 6
# Characters of a compressed code stand for 6 bits each, from this one on.
_ZERO, _MORE, _SIGN, _BITS = 48, 0x20, 0x10, 5
# Beyond these, ids are no whole numbers to the libraries that count them.
LARGEST_ID = 2**63 - 1
# Of a value that an error quotes.
LONGEST_QUOTE = 100


class Fault(NamedTuple):
    """A fault of an entry: its kind, and a text that follows the entry's name."""

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
        return Fault(MALFORMED, f'has the file_name {quoted(name)}, which no file can have')
    if leads_out(name):
        return Fault(
            'file names that lead out of the folder of images',
            f'has the file_name {quoted(name)}, which leads out of the folder of images',
        )
    for side in ('height', 'width'):
        if type(image.get(side)) is not int or image[side] < 1:
            return Fault(MALFORMED, _lack(image, side, 'a whole number of pixels'))
    if image['height'] * image['width'] > MOST_PIXELS:
        size = f'{quoted(image["width"])}x{quoted(image["height"])}'
        return Fault(
            'images of too many pixels',
            f'is of {size} pixels, more than {MOST_PIXELS / 1e6:.0f} million are not read',
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
        return Fault(MALFORMED, f'has the name {quoted(category["name"])}, which cannot be written')
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
        with_masks: whether its `segmentation` will be used; else it is not looked at.
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
            return Fault(MALFORMED, f'has {key} {quoted(annotation[key])}, neither 0 nor 1')
    fault = _box_fault(annotation)
    if fault or not with_masks:
        return fault
    if not annotation.get('segmentation'):
        return Fault(MISSING_MASKS, 'has no segmentation')
    return _mask_fault(annotation['segmentation'], sizes[image], evaluated)


def annotation_oddity(annotation: dict, size: tuple[int, int], with_masks: bool = True) -> Fault | None:
    """Return why an entry of `annotations` without a fault does not count; None if it does.

    Args:
        annotation: an entry without a fault.
        size: height and width of its image.
        with_masks: whether its `segmentation` will be used.
    """
    left, top, width, height = annotation['bbox']
    if width < 1 or height < 1:
        text = f'has the bbox {quoted(annotation["bbox"])}, less than a pixel wide or high'
        return Fault('boxes of no area', text)
    if min(left + width, size[1]) <= max(left, 0) or min(top + height, size[0]) <= max(top, 0):
        text = f'has the bbox {quoted(annotation["bbox"])}, outside its image of {size[1]}x{size[0]}'
        return Fault('boxes outside the image', text)
    if annotation['area'] <= 0:
        return Fault('wrong areas', f'has the area {annotation["area"]}')
    mask = annotation['segmentation'] if with_masks else None
    if type(mask) is list and not any(map(is_usable, mask)):
        return Fault('masks of no area', 'has no polygon of three points or more')
    return None


def _box_fault(annotation: dict) -> Fault | None:
    box, area = annotation['bbox'], annotation['area']
    if type(box) is not list or len(box) != 4 or not all_finite(box):
        return Fault('boxes that are no numbers', f'has the bbox {quoted(box)}, not four numbers')
    if max(map(abs, box)) > FARTHEST:
        text = f'has the bbox {quoted(box)}, millions of pixels outside its image'
        return Fault('boxes outside the image', text)
    if not all_finite([area]):
        return Fault('wrong areas', f'has the area {quoted(area)}, not a number')
    if area > LARGEST_AREA:
        return Fault('wrong areas', f'has the area {quoted(area)}, more than any image')
    return None


def _mask_fault(mask: Any, size: tuple[int, int], evaluated: bool) -> Fault | None:
    if type(mask) is dict:
        if is_run_length_code(mask, size):
            return None
        height, width = size
        text = f'has a segmentation that is no run-length code of {height} rows, {width} columns'
        return Fault('run-length codes of another size', text)
    if not polygons_are_drawable(mask):
        text = 'has a segmentation that is neither polygons nor a run-length code'
        return Fault('malformed masks', text)
    if evaluated and not can_be_evaluated(mask):
        text = 'has a polygon of an odd number of coordinates, or of fewer than three points'
        return Fault('malformed masks', text)
    return None


def polygons_are_drawable(polygons: Any) -> bool:
    """Return whether these are lists of finite numbers whose outlines fit into memory."""
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
    """Return whether pycocotools can read polygons; it takes a single list of four numbers for a box.

    It fails on shorter ones, drops the last of an odd number, and reads a list of four numbers before
    others as if all were boxes.
    """
    return len(polygons) == len(polygons[0]) // 4 == 1 or all(map(is_usable, polygons))


def is_run_length_code(mask: Any, size: tuple[int, int]) -> bool:
    """Return whether this is a run-length code of an image of `size`, height and width.

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
    """Return lengths of runs from a compressed code, (N,), int64; None if the text is no such code.

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


def all_finite(numbers: Iterable[Any]) -> bool:
    """Return whether all are numbers, none of them NaN, infinite, or too large for a float."""
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
        return False


def is_id(value: Any) -> bool:
    """Return whether this is an integer of 64 bits or a string."""
    return type(value) is str or (type(value) is int and abs(value) <= LARGEST_ID)


def is_name(value: Any) -> bool:
    """Return whether this is a string that can be written to the terminal or be the name of a file."""
    if type(value) is not str or '\0' in value:
        return False
    try:
        value.encode()
    # JSON can hold halves of characters.
    except UnicodeEncodeError:
        return False
    return True


def quoted(value: Any) -> str:
    """Return a value as Python writes it, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f'{text[:LONGEST_QUOTE]}...'
