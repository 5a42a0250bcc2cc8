"""Whether a file holds ground truth in COCO's format that fits a data set's classes.

mmdet and pycocotools take most of what is refused here: they leave out annotations of classes that they
do not know by name, and number the classes by their order in the file.
"""

import gc
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from evaluation.errors import UserError, warn

_LISTS = ('images', 'annotations', 'categories')
_WANTED = f'give COCO ground truth, an object with {", ".join(_LISTS)}'


def check_coco(file: Path, classes: Sequence[str], evaluated: bool) -> list[str]:
    """Look at every entry of an annotation file.

    Args:
        file: an `instances_*.json`.
        classes: names of the data set's classes, in the order of the labels.
        evaluated: whether pycocotools will evaluate on it, which needs `iscrowd`.

    Returns:
        file names of the images.

    Raises:
        UserError: it is not COCO's format, or does not fit the classes; the message names the entry.
    """
    data = read_json(file)
    check_sections(data, file)
    sizes = check_images(data['images'], file)
    category_names = check_categories(data['categories'], classes, file)
    check_annotations(data['annotations'], sizes, category_names, evaluated, file)
    used = {category_names[annotation['category_id']] for annotation in data['annotations']}
    if used.isdisjoint(classes):
        raise UserError(
            f'{file} has no annotation of the classes {listed(classes)}; give the file that has'
        )
    return [image['file_name'] for image in data['images']]


def read_json(file: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: it cannot be read, or is no JSON; the message says where it breaks.
    """
    # mmdet parses the file once more. To hand over what was read, its data set and its metric would have
    # to be replaced, all for ten seconds of a training of many hours.
    gc.disable()  # Else it looks for garbage among millions of new objects: 15 seconds instead of 10.
    try:
        return json.loads(file.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror}); {_WANTED}') from error
    except json.JSONDecodeError as error:
        where = f'line {error.lineno}, column {error.colno}'
        raise UserError(
            f'{file} is not JSON, or not whole: it breaks at {where}; copy it again, or {_WANTED}'
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise UserError(f'{file} is not JSON; {_WANTED}') from error
    finally:
        gc.enable()


def check_sections(data: Any, file: Path) -> None:
    """Look for the three lists.

    Raises:
        UserError: one is missing, is no list, or is empty.
    """
    if type(data) is list:
        raise UserError(f'{file} is a list, as predictions are written; {_WANTED}')
    if type(data) is not dict:
        raise UserError(f'{file} is not an object; {_WANTED}')
    for name in _LISTS:
        if name not in data:
            raise UserError(f'{file} has no {name}; {_WANTED}')
        if type(data[name]) is not list:
            raise UserError(f'{file}: {name} is not a list; {_WANTED}')
        if not data[name]:
            raise UserError(f'{file}: the list of {name} is empty; {_WANTED}')


def check_images(images: list, file: Path) -> dict[int | str, tuple[int, int]]:
    """Return height and width of each image by its id.

    Raises:
        UserError: an entry lacks what is needed, or an id occurs twice.
    """
    check_entries('images', images, _image_fault, file)
    return {image['id']: (image['height'], image['width']) for image in images}


def check_annotations(
    annotations: list,
    sizes: dict[int | str, tuple[int, int]],
    categories: dict[int | str, str],
    evaluated: bool,
    file: Path,
) -> None:
    """Look at every annotation.

    Raises:
        UserError: one lacks what is needed, refers to what is not there, or an id occurs twice.
    """
    keys = ('id', 'image_id', 'category_id', 'bbox', 'area', 'segmentation')
    keys += ('iscrowd',) if evaluated else ()

    def fault(annotation: dict) -> str | None:
        for key in keys:
            if key not in annotation:
                return f'has no {key}'
        for key, known in (('image_id', sizes), ('category_id', categories)):
            if not _is_id(annotation[key]) or annotation[key] not in known:
                return f'has {key} {annotation[key]!r}, which the file does not list'
        return _shape_fault(annotation, sizes[annotation['image_id']])

    check_entries('annotations', annotations, fault, file)


def check_entries(
    section: str, entries: list, fault_of: Callable[[dict], str | None], file: Path
) -> None:
    """Apply `fault_of` to every entry, and look for ids that occur twice.

    Raises:
        UserError: an entry has a fault; the message names the first.
    """
    for number, entry in enumerate(entries, start=1):
        if type(entry) is not dict:
            raise UserError(f'{file}: entry {number} of {section} is not an object; {_WANTED}')
        fault = fault_of(entry)
        if fault:
            name = f'the one with id {entry["id"]}' if _is_id(entry.get('id')) else f'entry {number}'
            raise UserError(f'{file}: of the {section}, {name} {fault}; correct or remove it')
    most = Counter(entry['id'] for entry in entries).most_common(1)[0] if entries else (None, 1)
    if most[1] > 1:
        raise UserError(f'{file}: of the {section}, {most[1]} have the id {most[0]}; make them unique')


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def _image_fault(image: dict) -> str | None:
    if not _is_id(image.get('id')):
        return 'has no id'
    if type(image.get('file_name')) is not str:
        return 'has no file_name'
    for side in ('height', 'width'):
        if type(image.get(side)) is not int or image[side] < 1:
            return f'has no {side} in pixels'
    return None


def _shape_fault(annotation: dict, size: tuple[int, int]) -> str | None:
    """What is wrong with box, area or mask, if something is."""
    box, area, mask = annotation['bbox'], annotation['area'], annotation['segmentation']
    if not _is_id(annotation['id']):
        return 'has no id'
    if type(box) is not list or len(box) != 4 or not _finite(box):
        return f'has the bbox {box!r}, not four numbers'
    if not _finite([area]):
        return f'has the area {area!r}, not a number'
    if type(mask) is dict:
        if mask.get('size') != list(size) or type(mask.get('counts')) not in (list, str):
            height, width = size
            return f'has a segmentation that is no run-length code of {height} rows, {width} columns'
    elif type(mask) is not list or not mask or not all(map(_finite, mask)):
        return 'has a segmentation that is neither polygons nor a run-length code'
    return None


def _finite(numbers: Iterable[float]) -> bool:
    """Whether all are numbers, none of them NaN or infinite."""
    try:
        return math.isfinite(sum(numbers))
    except TypeError:
        return False


def check_categories(categories: list, classes: Sequence[str], file: Path) -> dict[int | str, str]:
    """Return the name of each category by its id, after a comparison with the classes.

    mmdet gives labels to the classes in the order of the categories, skipping a class without one. So
    a missing class, or another order, would give every later class the label of its neighbour. Further
    categories are left out, as is usual for a part of the classes.

    Raises:
        UserError: a class has no category, or their orders differ.
    """
    check_entries('categories', categories, _category_fault, file)
    names = [category['name'] for category in categories]
    missing = [name for name in classes if name not in names]
    unknown = [name for name in names if name not in classes]
    if missing:
        also = (
            f', and {len(unknown)} categories that are no class ({listed(unknown)})' if unknown else ''
        )
        raise UserError(
            f'{file} has no category for {len(missing)} of the {len(classes)} classes '
            f'({listed(missing)}){also}; set metainfo.classes and num_classes to its categories, '
            'or list every class in it'
        )
    shared = [name for name in names if name in classes]
    if shared != list(classes):
        at = next(i for i, name in enumerate(shared) if name != [*classes, None][i])
        raise UserError(
            f'{file} lists category {shared[at]!r} twice or out of the order of the classes, which '
            'labels follow; order its categories as the classes, each once'
        )
    if unknown:
        left_out = f'annotations of {len(unknown)} categories that are no class ({listed(unknown)})'
        warn(f'{file}: {left_out} are left out')
    return {category['id']: category['name'] for category in categories}


def _category_fault(category: dict) -> str | None:
    if not _is_id(category.get('id')):
        return 'has no id'
    return None if type(category.get('name')) is str else 'has no name'


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
