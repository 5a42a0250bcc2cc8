"""What is wrong with single entries of a file in COCO's format.

There are two degrees. With a fault an entry cannot be used: libraries fail on it, or make something else
of it than it says. With an oddity it can be used but does not count: mmdet leaves it out of a training,
and no detector can find it.
"""

from collections.abc import Container
from typing import Any, NamedTuple

from evaluation.data.coco_masks import (
    FARTHEST,
    can_be_evaluated,
    is_run_length_code,
    is_usable,
    polygons_are_drawable,
)
from evaluation.data.image_files import MOST_PIXELS
from evaluation.data.listing import leads_out
from evaluation.data.plain_values import all_finite, is_id, is_name, quoted

NEEDED = dict.fromkeys(('id', 'image_id', 'category_id', 'bbox', 'area'))
# COCO's evaluation leaves out whatever is larger.
LARGEST_AREA = 1e10
MALFORMED = 'malformed entries'
MISSING_MASKS = 'missing masks'
ID = 'a whole number or a text'


class Fault(NamedTuple):
    """What is wrong with an entry: in words for a list of kinds, and of this one, after its name."""

    kind: str
    text: str


def image_fault(image: dict) -> Fault | None:
    """What keeps an entry of `images` from being used, if something does."""
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
    """What is wrong with a value: that there is none, or which it is."""
    if entry.get(key) is None:
        return f'has no {key}'
    return f'has the {key} {quoted(entry[key])}, not {expected}'


def category_fault(category: dict) -> Fault | None:
    """What keeps an entry of `categories` from being used, if something does."""
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
    """What keeps an entry of `annotations` from being used, if something does.

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
    """Why a sound entry of `annotations` does not count, if it does not.

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
