"""An annotation file of COCO's format without what is wrong in it."""

import os
from collections import Counter
from collections.abc import Container
from typing import Any

from pycocotools import mask as coco_mask

from evaluation.data.coco_entries import category_fault, image_fault
from evaluation.data.coco_masks import is_run_length_code, polygons_are_drawable
from evaluation.data.examination.coco import annotation_faults
from evaluation.data.examination.doubts import (
    Box,
    are_alike,
    as_code,
    bounds_of,
    clipped,
    has_area,
    largest_area,
)
from evaluation.data.plain_values import all_finite, is_id
from evaluation.utils.errors import UserError

Sizes = dict[int | str, tuple[int, int]]


def mended(
    content: dict, bad_images: Container[str], with_masks: bool = True
) -> tuple[dict, Counter[str]]:
    """A copy of an annotation file's content without what is wrong, and how often what was done.

    Images that cannot be used go, with their annotations; boxes are clipped to their images, or taken
    from their masks where they do not fit; polygons without an area go, and annotations of which no
    mask or box is left. Annotations are numbered anew, from 1.

    Args:
        content: with the three lists.
        bad_images: normalised file names of images that are missing or cannot be loaded.
        with_masks: whether an annotation must have a mask; else masks stay as they are.

    Raises:
        UserError: the categories are wrong, or nothing is left.
    """
    check_categories(content['categories'])
    done: Counter[str] = Counter()
    images = usable_images(content['images'], bad_images)
    done['images left out'] = len(content['images']) - len(images)
    sizes = {image['id']: (image['height'], image['width']) for image in images}
    known = {category['id'] for category in content['categories']}
    annotations = []
    for entry in content['annotations']:
        changed = mended_annotation(entry, sizes, known, with_masks) if type(entry) is dict else None
        if changed is None:
            done['annotations left out'] += 1
            continue
        for key in changed.keys() - {'id'}:
            if key not in entry or changed[key] != entry[key]:
                done[f'values of {key} corrected'] += 1
        annotations.append({**changed, 'id': len(annotations) + 1})
    if not images or not annotations:
        raise UserError('nothing that can be used is left to be written; get the data again')
    ids = [entry.get('id') for entry in content['annotations'] if type(entry) is dict]
    done['annotations numbered anew'] = sum(
        changed['id'] != number for changed, number in zip(annotations, ids, strict=False)
    )
    result = {**content, 'images': images, 'annotations': annotations}
    return with_ids_of_one_kind(result), +done


def check_categories(categories: list) -> None:
    """Look whether the categories can be told apart.

    Raises:
        UserError: they cannot, and nobody but the author knows what they mean.
    """
    advice = 'correct the categories by hand, since labels follow them'
    for number, category in enumerate(categories, start=1):
        fault = None if type(category) is dict else 'is no object'
        fault = fault or getattr(category_fault(category), 'text', None)
        if fault:
            raise UserError(f'entry {number} of categories {fault}; {advice}')
    for key in ('id', 'name'):
        if len({category[key] for category in categories}) < len(categories):
            raise UserError(f'two categories have the same {key}; {advice}')


def usable_images(images: list, bad_images: Container[str]) -> list[dict]:
    """The entries of images that can be used, of several with one id and one file the first.

    Where one id is of several files, none of them: whose its objects are cannot be told.
    """
    sound = [image for image in images if type(image) is dict and not image_fault(image)]
    files_of: dict[int | str, set[str]] = {}
    for image in sound:
        files_of.setdefault(image['id'], set()).add(os.path.normpath(image['file_name']))
    ids, names, usable = set(), set(), []
    for image in sound:
        name = os.path.normpath(image['file_name'])
        is_first = image['id'] not in ids and name not in names
        if is_first and len(files_of[image['id']]) == 1 and name not in bad_images:
            usable.append(image)
        ids.add(image['id'])
        names.add(name)
    return usable


def mended_annotation(
    annotation: dict, sizes: Sizes, categories: Container[int | str], with_masks: bool = True
) -> dict | None:
    """A copy of an annotation without what is wrong; None where that leaves nothing to use."""
    image, category = annotation.get('image_id'), annotation.get('category_id')
    is_known = is_id(image) and image in sizes and is_id(category) and category in categories
    if not is_known:
        return None
    changed = {**annotation, 'id': 1}
    mask = usable_mask(annotation.get('segmentation'), sizes[image]) if with_masks else None
    if mask is not None:
        changed['segmentation'] = mask
    elif with_masks or not is_box(annotation.get('bbox')):
        return None
    for key in ('iscrowd', 'ignore'):
        if key in changed and changed[key] not in (0, 1):
            return None
    changed.setdefault('iscrowd', 0)
    changed['bbox'] = fitting_box(changed, mask, sizes[image])
    area = changed.get('area')
    if not all_finite([area]) or not 0 < area <= largest_area(changed['bbox']):
        _, _, width, height = changed['bbox']
        changed['area'] = float(
            width * height if mask is None else coco_mask.area(as_code(mask, sizes[image]))
        )
    faults = annotation_faults(changed, sizes, categories, with_masks=with_masks)
    is_clean = next(faults, None) is None
    return changed if is_clean else None


def usable_mask(mask: Any, size: tuple[int, int]) -> list | dict | None:
    """The polygons that have an area, or a run-length code as it is; None where there is neither."""
    if is_run_length_code(mask, size):
        return mask
    if not polygons_are_drawable(mask):
        return None
    return [polygon for polygon in mask if has_area(polygon)] or None


def is_box(box: Any) -> bool:
    """Whether this is four numbers."""
    return type(box) is list and len(box) == 4 and all_finite(box)


def fitting_box(annotation: dict, mask: list | dict | None, size: tuple[int, int]) -> list[float]:
    """The box clipped to an image of `size`, height and width, or the mask's if they do not fit."""
    box = annotation.get('bbox')
    bounds = None if mask is None else bounds_of(mask, size)
    if is_box(box):
        left, top, width, height = box
        corners = clipped((left, top, left + width, top + height), size)
        if bounds is None or annotation['iscrowd'] or are_alike(corners, bounds):
            is_inside = corners == (left, top, left + width, top + height)
            return box if is_inside else as_box(corners)
    return as_box(bounds)


def as_box(corners: Box) -> list[float]:
    """Left, top, width and height from the corners."""
    left, top, right, bottom = corners
    return [left, top, right - left, bottom - top]


def with_ids_of_one_kind(content: dict) -> dict:
    """A copy in which images, and categories, that have numbers and texts as ids are numbered anew."""
    result = dict(content)
    for section, key in (('images', 'image_id'), ('categories', 'category_id')):
        entries = content[section]
        if len({type(entry['id']) for entry in entries}) > 1:
            numbers = {entry['id']: number for number, entry in enumerate(entries, start=1)}
            result[section] = [{**entry, 'id': numbers[entry['id']]} for entry in entries]
            result['annotations'] = [
                {**entry, key: numbers[entry[key]]} for entry in result['annotations']
            ]
    return result
