"""COCO annotations with every key that the suite needs, from files that lack some.

Exporters leave out `area`, `iscrowd` or boxes, number categories in any way, and list categories that
nothing belongs to. The completed content has the ids 1, 2, ... of its classes in the order of the file,
and boxes, areas and crowd flags everywhere. Polygons and run-length codes stay as they are.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask

from evaluation.data.coco_faults import Fault, annotation_fault, category_fault, quoted
from evaluation.data.coco_file import (
    check_annotations,
    check_entries,
    check_images,
    check_sections,
    listed,
)
from evaluation.data.examine_coco import as_code
from evaluation.utils.errors import UserError

# Filled in where missing; any value that is valid, to check the others before it is computed.
PLACEHOLDERS = {'bbox': [0, 0, 1, 1], 'area': 1, 'iscrowd': 0}
# Keys of annotations that are written.
KEPT = ('image_id', 'bbox', 'area', 'iscrowd', 'ignore', 'segmentation')
Size = tuple[int, int]


def complete(content: Any, file: Path, with_masks: bool = True) -> dict:
    """Return the content of an annotation file with boxes, areas, crowd flags and names of classes.

    Args:
        content: JSON of the file.
        file: path of the file, for messages.
        with_masks: whether masks will be used; otherwise those of objects with boxes are dropped.

    Returns:
        `images` and `categories` as given, and `annotations`, each with `category`, the name of its
        class, in addition to COCO's keys.

    Raises:
        UserError: an entry is malformed, an id occurs twice, or two categories have the same name.
    """
    check_sections(content, file)
    sizes = check_images(content['images'], file)
    names = _category_names(content['categories'], file)
    annotations = [_without_nulls(entry) for entry in content['annotations']]
    if all(type(entry) is dict and 'id' not in entry for entry in annotations):
        annotations = [{**entry, 'id': number} for number, entry in enumerate(annotations, start=1)]
    if not with_masks:
        # A mask is then needed only where the box is missing.
        annotations = [
            {k: v for k, v in entry.items() if k != 'segmentation' or 'bbox' not in entry}
            if type(entry) is dict
            else entry
            for entry in annotations
        ]

    def fault(entry: dict) -> Fault | None:
        known = {k: v for k, v in PLACEHOLDERS.items() if k != 'bbox' or entry.get('segmentation')}
        return annotation_fault({**known, **entry}, sizes, names, True, bool(entry.get('segmentation')))

    check_entries('annotations', annotations, fault, file)
    completed = [_complete_entry(entry, sizes[entry['image_id']], names) for entry in annotations]
    return {**content, 'annotations': completed}


def have_masks(contents: Mapping[Path, dict]) -> bool:
    """Return whether the objects have masks: all of them, or none.

    Args:
        contents: completed contents by the path of their file.

    Raises:
        UserError: only some have masks.
    """
    entries = [(file, entry) for file, content in contents.items() for entry in content['annotations']]
    lacking = [(file, entry) for file, entry in entries if not entry.get('segmentation')]
    if lacking and len(lacking) < len(entries):
        file, entry = lacking[0]
        raise UserError(
            f'{len(lacking)} of the {len(entries)} annotations have no segmentation, such as that with '
            f'id {quoted(entry["id"])} in {file}; add their masks, or give --boxes to use only boxes'
        )
    return not lacking


def used_classes(contents: Sequence[dict], files: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Return the names of the categories that have annotations, and of those that have none.

    Args:
        contents: completed contents of the annotation files, that of the training images first.
        files: their paths, for messages.

    Raises:
        UserError: the files have different categories.
    """
    names = [[category['name'] for category in content['categories']] for content in contents]
    for file, other in zip(files[1:], names[1:], strict=True):
        if different := sorted({*names[0]} ^ {*other}):
            raise UserError(
                f'{file} and {files[0]} have different categories ({listed(different)}); list the same '
                'ones in both'
            )
    used = {entry['category'] for content in contents for entry in content['annotations']}
    return [name for name in names[0] if name in used], [name for name in names[0] if name not in used]


def coco_content(
    images: Sequence[dict], annotations: Sequence[dict], classes: Sequence[str], with_masks: bool
) -> dict:
    """Return the content of an annotation file for some of the images.

    Args:
        images: entries of `images`.
        annotations: completed entries; those of further images are left out.
        classes: names of the classes, in the order of the labels.
        with_masks: whether masks are kept.
    """
    ids = {name: number for number, name in enumerate(classes, start=1)}
    present = {image['id'] for image in images}
    wanted = KEPT if with_masks else [key for key in KEPT if key != 'segmentation']
    kept = []
    for entry in annotations:
        if entry['image_id'] in present:
            own = {key: entry[key] for key in wanted if key in entry}
            # Matching in pycocotools reads the annotation id 0 as none.
            kept.append({**own, 'id': len(kept) + 1, 'category_id': ids[entry['category']]})
    categories = [{'id': number, 'name': name} for name, number in ids.items()]
    return {'images': list(images), 'annotations': kept, 'categories': categories}


def check_content(content: dict, file: Path, with_masks: bool) -> None:
    """Check a content as the start of a training does.

    Raises:
        UserError: an entry cannot be used.
    """
    check_sections(content, file)
    names = {category['id']: category['name'] for category in content['categories']}
    sizes = check_images(content['images'], file)
    check_annotations(content['annotations'], sizes, names, True, file, with_masks)


def _category_names(categories: list, file: Path) -> dict[int | str, str]:
    check_entries('categories', categories, category_fault, file)
    names = [category['name'] for category in categories]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f'{file} has several categories with the name {twice!r}; make names unique')
    return {category['id']: category['name'] for category in categories}


def _without_nulls(entry: Any) -> Any:
    """Return an entry without the keys whose value is null, which exporters write for unknown values."""
    if type(entry) is not dict:
        return entry
    return {key: value for key, value in entry.items() if value is not None}


def _complete_entry(entry: dict, size: Size, names: Mapping[int | str, str]) -> dict:
    """Fill in the missing values of an annotation without a fault.

    Args:
        entry: the annotation.
        size: height and width of its image.
        names: names of the categories by id.
    """
    mask = entry.get('segmentation')
    added: dict[str, Any] = {'category': names[entry['category_id']], 'iscrowd': 0}
    box = entry.get('bbox')
    if box is None:
        box = added['bbox'] = coco_mask.toBbox(as_code(mask, size)).tolist()
    if 'area' not in entry:
        added['area'] = float(coco_mask.area(as_code(mask, size))) if mask else float(box[2] * box[3])
    return {**added, **entry}
