"""Check that a file holds COCO ground truth that fits a data set's classes.

mmdet and pycocotools accept most of what is refused here: they silently skip annotations of unknown
classes, and number the classes by their order in the file.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evaluation.data.coco_faults import (
    MISSING_MASKS,
    Fault,
    annotation_fault,
    annotation_oddity,
    category_fault,
    image_fault,
    is_id,
    quoted,
)
from evaluation.utils.errors import UserError, warn
from evaluation.utils.process_memory import garbage_collection_paused

_LISTS = ('images', 'annotations', 'categories')
_WITHOUT_TRUTH = ('images', 'categories')
FORMAT_ONLY = 'write predictions without annotations with tools/test.py --format-only DIR'
_WANTED = f'give COCO ground truth, an object with {", ".join(_LISTS)}'
_WITHOUT_MASKS = (
    'but the config uses masks; add it, or use a config of a detector without masks '
    '(for example with model.roi_head.mask_head=None)'
)


# The garbage collector would scan millions of objects and take half of the time.
@garbage_collection_paused()
def check_coco(
    file: Path,
    classes: Sequence[str],
    evaluated: bool,
    with_masks: bool = True,
    needs_truth: bool = True,
    is_test: bool = False,
) -> list[str]:
    """Check every entry of an annotation file.

    Args:
        file: path of an `instances_*.json`.
        classes: names of the data set's classes, in the order of the labels.
        evaluated: whether pycocotools will evaluate on it, which needs `iscrowd`.
        with_masks: whether masks will be used; otherwise `segmentation` may be missing or malformed.
        needs_truth: whether the file must have annotations; if not, they are not checked.
        is_test: whether the file belongs to a test set, which can be without annotations on purpose.

    Returns:
        File names of the images.

    Raises:
        UserError: the file is not in COCO's format, or does not fit the classes; the message names the
            entry.
    """
    data = read_json(file)
    check_sections(data, file, _LISTS if needs_truth else _WITHOUT_TRUTH, is_test)
    sizes = check_images(data['images'], file)
    category_names = check_categories(data['categories'], classes, file)
    if not needs_truth:
        return [image['file_name'] for image in data['images']]
    check_annotations(data['annotations'], sizes, category_names, evaluated, file, with_masks)
    warn_of_oddities(data['annotations'], sizes, file, with_masks)
    used = {category_names[annotation['category_id']] for annotation in data['annotations']}
    if used.isdisjoint(classes):
        raise UserError(
            f'{file} has no annotation of the classes {listed(classes)}; give a file that has some'
        )
    return [image['file_name'] for image in data['images']]


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file cannot be read, or is not valid JSON; the message gives line and column.
    """
    # mmdet parses the file again. Sharing the parsed content would mean replacing its data set and its
    # metric, to save ten seconds of many hours of training.
    try:
        return json.loads(file.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror}); {_WANTED}') from error
    except json.JSONDecodeError as error:
        where = f'line {error.lineno}, column {error.colno}'
        raise UserError(
            f'{file} is not valid JSON or is truncated (error at {where}); copy it again, or {_WANTED}'
        ) from error
    # Numbers with thousands of digits raise ValueError too.
    except (ValueError, RecursionError) as error:
        raise UserError(f'{file} is not valid JSON; {_WANTED}') from error


def check_sections(
    data: Any, file: Path, sections: Sequence[str] = _LISTS, is_test: bool = False
) -> None:
    """Check that an annotation file has its lists.

    Raises:
        UserError: a list is missing or empty, or is not a list.
    """
    if type(data) is list:
        raise UserError(f'{file} is a list, like a file of predictions; {_WANTED}')
    if type(data) is not dict:
        raise UserError(f'{file} is not an object; {_WANTED}')
    for name in sections:
        if name not in data:
            advice = f', or {FORMAT_ONLY}' if is_test and name == 'annotations' else ''
            raise UserError(f'{file} has no {name}; {_WANTED}{advice}')
        if type(data[name]) is not list:
            raise UserError(f'{file}: {name} is not a list; {_WANTED}')
        if not data[name]:
            advice = f', or {FORMAT_ONLY}' if is_test and name == 'annotations' else ''
            raise UserError(f'{file}: the list of {name} is empty; {_WANTED}{advice}')


def check_images(images: list, file: Path) -> dict[int | str, tuple[int, int]]:
    """Return height and width of each image by its id.

    Raises:
        UserError: an entry has a fault, or an id occurs twice.
    """
    check_entries('images', images, image_fault, file)
    return {image['id']: (image['height'], image['width']) for image in images}


def check_annotations(
    annotations: list,
    sizes: dict[int | str, tuple[int, int]],
    categories: dict[int | str, str],
    evaluated: bool,
    file: Path,
    with_masks: bool = True,
) -> None:
    """Check every annotation.

    Raises:
        UserError: an annotation has a fault, or an id occurs twice.
    """

    def fault(annotation: dict) -> Fault | None:
        return annotation_fault(annotation, sizes, categories, evaluated, with_masks)

    check_entries('annotations', annotations, fault, file)


def warn_of_oddities(
    annotations: list, sizes: dict[int | str, tuple[int, int]], file: Path, with_masks: bool = True
) -> None:
    """Warn about annotations that have an oddity."""
    odd = [
        (entry['id'], annotation_oddity(entry, sizes[entry['image_id']], with_masks))
        for entry in annotations
    ]
    odd = [(number, oddity) for number, oddity in odd if oddity]
    if odd:
        number, oddity = odd[0]
        warn(
            f'{file}: {len(odd)} annotations mark nothing that can be learned or detected, such as '
            f'the entry with id {number}, which {oddity.text}; run tools/check_data.py to list them'
        )


def check_entries(
    section: str, entries: list, fault_of: Callable[[dict], Fault | None], file: Path
) -> None:
    """Apply `fault_of` to every entry, and check that ids are unique.

    Raises:
        UserError: an entry has a fault, or an id occurs twice; the message names the first.
    """
    for number, entry in enumerate(entries, start=1):
        if type(entry) is not dict:
            raise UserError(f'{file}: entry {number} of {section} is not an object; {_WANTED}')
        fault = fault_of(entry)
        if fault:
            name = f'{file}: in {section}, {entry_name(entry, number)} {fault.text}'
            if fault.kind == MISSING_MASKS:
                raise UserError(f'{name}, {_WITHOUT_MASKS}')
            raise UserError(f'{name}; correct or remove it')
    kinds = {type(entry['id']) for entry in entries}
    if len(kinds) > 1:
        raise UserError(
            f'{file}: in {section}, some ids are numbers and some are strings; make all ids numbers'
        )
    most = Counter(entry['id'] for entry in entries).most_common(1)[0] if entries else (None, 1)
    if most[1] > 1:
        raise UserError(
            f'{file}: in {section}, {most[1]} entries have the id {quoted(most[0])}; make ids unique'
        )


def entry_name(entry: dict, number: int) -> str:
    """Return the name of an entry in messages: its id, or its position counted from 1."""
    named = is_id(entry.get('id'))
    return f'the entry with id {quoted(entry["id"])}' if named else f'entry {number}'


def check_categories(categories: list, classes: Sequence[str], file: Path) -> dict[int | str, str]:
    """Check the categories against the classes; return the name of each category by its id.

    mmdet assigns labels to the classes in the order of the categories, and skips a class without one.
    So a missing class or a different order would give later classes wrong labels. Categories that are
    not among the classes are skipped, as is usual when training on a subset of classes.

    Raises:
        UserError: a class has no category, or the orders differ.
    """
    check_entries('categories', categories, category_fault, file)
    names = [category['name'] for category in categories]
    missing = [name for name in classes if name not in names]
    unknown = [name for name in names if name not in classes]
    if missing:
        also = f', and {len(unknown)} unknown categories ({listed(unknown)})' if unknown else ''
        raise UserError(
            f'{file} has no category for {len(missing)} of the {len(classes)} classes '
            f'({listed(missing)}){also}; set metainfo.classes and num_classes to match its categories, '
            'or add the missing categories to the file'
        )
    shared = [name for name in names if name in classes]
    if shared != list(classes):
        at = next(i for i, name in enumerate(shared) if name != [*classes, None][i])
        raise UserError(
            f'{file} lists category {shared[at]!r} twice or in a different order than the classes; '
            'list each category once, in the order of the classes'
        )
    if unknown:
        left_out = f'annotations of {len(unknown)} categories that are not classes ({listed(unknown)})'
        warn(f'{file}: {left_out} are skipped')
    return {category['id']: category['name'] for category in categories}


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first few names and the number of further ones."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
