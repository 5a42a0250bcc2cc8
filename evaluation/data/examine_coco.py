"""Examination of data in COCO's layout."""

import os
from collections import Counter
from collections.abc import Callable, Container, Iterator
from functools import partial
from pathlib import Path

from pycocotools import mask as coco_mask

from evaluation.data.bad_images import bad_files, reason
from evaluation.data.coco_faults import (
    LARGEST_ID,
    Fault,
    annotation_fault,
    annotation_oddity,
    category_fault,
    image_fault,
    is_id,
    is_usable,
    quoted,
)
from evaluation.data.coco_file import check_sections, entry_name, read_json
from evaluation.data.findings import COCO_FILES, Examination
from evaluation.data.image_files import check_upright, files_below
from evaluation.data.image_loading import LoadCheckedImage
from evaluation.utils.errors import UserError
from evaluation.utils.process_memory import garbage_collection_paused

LOAD = LoadCheckedImage()
# If at most this share of numbered files has a number that differs from the id, it is a mistake.
SHARE_OF_OTHER_NAMES = 0.1
# Tolerance in pixels; annotations are rounded.
OUTSIDE = 1.0
# Tolerance between a box and its mask, in pixels and as a share of the box side. COCO's boxes are exact.
APART, APART_SHARE = 5.0, 0.1
# A mask is not larger than its box, but COCO states areas of up to 1.4 times that of the drawn mask.
LARGEST_SHARE, ROUNDED = 2.0, 10.0
Box = tuple[float, float, float, float]


def annotation_files(root: Path) -> list[Path]:
    """Return the annotation files of a data root.

    Raises:
        UserError: there are none.
    """
    files = sorted(file for file in root.glob(COCO_FILES) if file.is_file())
    if not files:
        raise UserError(f'{root} has no {COCO_FILES}')
    return files


def image_folder(root: Path, file: Path) -> Path:
    """Return the folder of the images of `instances_NAME.json`: NAME."""
    return root / file.stem.removeprefix('instances_')


def examine_coco(examination: Examination, workers: int, with_masks: bool = True) -> None:
    """Examine every annotation file of a data root and every image that it lists.

    Args:
        examination: examination that findings are added to.
        workers: number of threads that load images.
        with_masks: whether masks are checked.

    Raises:
        UserError: a file is not an annotation file.
    """
    categories, images = {}, {}
    # Read all files before the first image, so that a wrong file is found within seconds.
    for file in annotation_files(examination.root):
        content = read_content(file)
        categories[file.name] = [
            entry.get('name') for entry in content['categories'] if type(entry) is dict
        ]
        examine_entries(examination, content, file.relative_to(examination.root), with_masks)
        examine_names(examination, content['images'], file.relative_to(examination.root))
        images[file] = {'images': content['images']}
    compare_categories(examination, categories)
    for file, content in images.items():
        examine_images(examination, content, image_folder(examination.root, file), workers)


@garbage_collection_paused()
def read_content(file: Path) -> dict:
    """Read an annotation file.

    Raises:
        UserError: the file is not valid JSON, or one of its lists is missing.
    """
    content = read_json(file)
    check_sections(content, file)
    return content


@garbage_collection_paused()
def examine_entries(
    examination: Examination, content: dict, file: Path, with_masks: bool = True
) -> None:
    """Check every entry of an annotation file.

    Args:
        examination: examination that findings are added to.
        content: content of the annotation file.
        file: path of the file, relative to the data root.
        with_masks: whether masks are checked.
    """
    sizes = {
        image['id']: (image['height'], image['width'])
        for image in content['images']
        if type(image) is dict and image_fault(image) is None
    }
    known = {
        category['id']
        for category in content['categories']
        if type(category) is dict and category_fault(category) is None
    }
    note = partial(examine_section, examination, content, file)
    note('images', lambda image: filter(None, [image_fault(image)]))
    note('categories', lambda category: filter(None, [category_fault(category)]))
    # Training does not need `iscrowd`.
    evaluated = not file.stem.startswith('instances_train')
    note('annotations', lambda entry: annotation_faults(entry, sizes, known, evaluated, with_masks))
    for section, key in (('images', 'file_name'), ('categories', 'name')):
        _find_duplicates(examination, content[section], file, section, key)


def examine_names(examination: Examination, images: list, file: Path) -> None:
    """Find images that have the id of another image.

    Args:
        examination: examination that findings are added to.
        images: entries of the annotation file.
        file: path of the file, relative to the data root.
    """
    for name, found in misnumbered(images).items():
        text = f'has the id {found}, but a different image is named after that id'
        examination.add('images with the id of a different image', f'{file}: {name}', text)


def misnumbered(images: list) -> dict[str, int]:
    """Return names and ids of images with the id of another, if files are named after ids as in COCO.

    It is unknown whether the name or the id is wrong, and so which objects are in the image.

    Args:
        images: entries of an annotation file.
    """
    numbered = {
        image['file_name']: (int(stem), image['id'])
        for image in images
        if type(image) is dict and type(image.get('file_name')) is str and type(image.get('id')) is int
        for stem in [Path(image['file_name']).stem]
        if stem.isascii() and stem.isdigit() and len(stem) <= len(str(LARGEST_ID))
    }
    numbers = {number for number, _ in numbered.values()}
    strange = {n: own for n, (number, own) in numbered.items() if number != own and own in numbers}
    # If there are many, files are not named after ids.
    return strange if len(strange) <= SHARE_OF_OTHER_NAMES * len(images) else {}


def annotation_faults(
    annotation: dict,
    sizes: dict[int | str, tuple[int, int]],
    categories: Container[int | str],
    evaluated: bool = True,
    with_masks: bool = True,
) -> Iterator[Fault]:
    """Yield the fault of an annotation, or else its oddity, or else its doubts."""
    fault = annotation_fault(annotation, sizes, categories, evaluated, with_masks)
    fault = fault or annotation_oddity(annotation, sizes[annotation['image_id']], with_masks)
    if fault:
        yield fault
    else:
        yield from annotation_doubts(annotation, sizes[annotation['image_id']], with_masks)


def examine_section(
    examination: Examination,
    content: dict,
    file: Path,
    section: str,
    faults_of: Callable[[dict], Iterator[Fault]],
) -> None:
    """Examine the entries of one list; check that ids are unique and of one type."""
    entries = content[section]
    if section != 'categories':
        examination.counts[section] += len(entries)
    for number, entry in enumerate(entries, start=1):
        if type(entry) is not dict:
            examination.add(
                'malformed entries', f'{file}: entry {number} of {section}', 'is not an object'
            )
            continue
        for fault in faults_of(entry):
            name = f'{file}: in {section}, {entry_name(entry, number)}'
            examination.add(fault.kind, name, fault.text)
    _find_duplicates(examination, entries, file, section, 'id')
    kinds = {type(entry['id']) for entry in entries if type(entry) is dict and is_id(entry.get('id'))}
    if len(kinds) > 1:
        text = 'have both numbers and strings as ids'
        examination.add('ids of two types', f'{file}: {section}', text)


def examine_images(examination: Examination, content: dict, folder: Path, workers: int) -> None:
    """Find and load every image that the file lists."""
    root = examination.root
    if not folder.is_dir():
        text = 'is missing, so none of its images were checked'
        examination.add('missing image folders', folder.relative_to(root), text)
        return
    there = files_below(folder)
    images = [image for image in content['images'] if type(image) is dict and not image_fault(image)]
    for image in images:
        if os.path.normpath(image['file_name']) not in there:
            examination.add('missing images', _name(root, folder, image), 'is missing')
    present = [image for image in images if os.path.normpath(image['file_name']) in there]
    for image, error in bad_files(present, partial(load, folder), workers, folder.name):
        text = reason(error, str(folder / image['file_name']))
        examination.add(error.kind, _name(root, folder, image), text)


def load(folder: Path, image: dict) -> None:
    """Load an image as in training.

    Raises:
        BadFileError: the image cannot be used, or has an EXIF orientation.
    """
    path = str(folder / image['file_name'])
    stated = {key: image[key] for key in ('height', 'width')}
    LOAD.transform({'img_path': path, **stated})
    check_upright(Path(path).read_bytes(), path)


def compare_categories(examination: Examination, names: dict[str, list]) -> None:
    """Compare the categories of all annotation files, including their order."""
    first, *others = names
    for other in others:
        if names[other] != names[first]:
            text = f'has different categories than {first}, or a different order'
            examination.add('categories that differ', f'annotations/{other}', text)


def _name(root: Path, folder: Path, image: dict) -> Path:
    return folder.relative_to(root) / image['file_name']


def _find_duplicates(
    examination: Examination, entries: list, file: Path, section: str, key: str
) -> None:
    values = [entry.get(key) for entry in entries if type(entry) is dict]
    counts = Counter(value for value in values if is_id(value))
    for value, count in counts.items():
        if count > 1:
            text = f'have the {key} {quoted(value)}'
            subject = f'{file}: in {section}, {count} entries'
            examination.add(f'duplicate {key}s of {section}', subject, text)


def annotation_doubts(
    annotation: dict, size: tuple[int, int], with_masks: bool = True
) -> Iterator[Fault]:
    """Yield likely mistakes in an annotation that has neither a fault nor an oddity.

    Args:
        annotation: the entry.
        size: height and width of its image.
        with_masks: whether its mask is checked.
    """
    left, top, width, height = annotation['bbox']
    if left < -OUTSIDE or top < -OUTSIDE:
        outside = True
    else:
        outside = left + width > size[1] + OUTSIDE or top + height > size[0] + OUTSIDE
    if outside:
        text = (
            f'has the bbox {quoted(annotation["bbox"])}, partly outside its image of {size[1]}x{size[0]}'
        )
        yield Fault('boxes partly outside the image', text)
    if annotation['area'] > largest_area(annotation['bbox']):
        text = f'has the area {annotation["area"]:g} in a box of {width:g}x{height:g}'
        yield Fault('wrong areas', text)
    if not with_masks:
        return
    mask = annotation['segmentation']
    empty = [polygon for polygon in mask if not has_area(polygon)] if type(mask) is list else []
    if empty:
        kind = 'masks without area' if len(empty) == len(mask) else 'degenerate polygons'
        yield Fault(kind, f'has {len(empty)} of {len(mask)} polygons without area')
    # In COCO, boxes of crowds were not computed from their run-length codes.
    if not empty and not annotation.get('iscrowd'):
        yield from _fit_doubts(annotation, size)


def largest_area(box: list[float]) -> float:
    """Return the largest plausible area of an object in a box."""
    return LARGEST_SHARE * box[2] * box[3] + ROUNDED


def _fit_doubts(annotation: dict, size: tuple[int, int]) -> Iterator[Fault]:
    left, top, width, height = annotation['bbox']
    box = clipped((left, top, left + width, top + height), size)
    bounds = bounds_of(annotation['segmentation'], size)
    if not are_alike(box, bounds):
        corners = ', '.join(f'{value:g}' for value in bounds)
        text = f'has the bbox {quoted(annotation["bbox"])}, but its mask has the corners {corners}'
        yield Fault('boxes that do not fit their masks', text)


def are_alike(box: Box, bounds: Box) -> bool:
    """Return whether the corners of a box are close to those of its mask."""
    allowed = [max(APART, APART_SHARE * (box[2 + i] - box[i])) for i in (0, 1)] * 2
    return all(abs(b - m) <= most for b, m, most in zip(box, bounds, allowed, strict=True))


def has_area(polygon: list[float]) -> bool:
    """Return whether a polygon has an area."""
    return is_usable(polygon) and area_of(polygon) > 0


def area_of(polygon: list[float]) -> float:
    """Return the area of a polygon of coordinates x1, y1, x2, y2, ... (the shoelace formula)."""
    xs, ys = polygon[::2], polygon[1::2]
    nexts = zip(xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    return abs(sum(x * b - a * y for x, y, (a, b) in zip(xs, ys, nexts, strict=True))) / 2


def bounds_of(mask: list[list[float]] | dict, size: tuple[int, int]) -> Box:
    """Return left, top, right and bottom of polygons or a run-length code, inside the image."""
    if type(mask) is dict:
        left, top, width, height = coco_mask.toBbox(as_code(mask, size)).tolist()
        return left, top, left + width, top + height
    xs = [x for polygon in mask if is_usable(polygon) for x in polygon[::2]]
    ys = [y for polygon in mask if is_usable(polygon) for y in polygon[1::2]]
    return clipped((min(xs), min(ys), max(xs), max(ys)), size)


def as_code(mask: list[list[float]] | dict, size: tuple[int, int]) -> dict:
    """Convert a mask to a compressed run-length code."""
    if type(mask) is list:
        return coco_mask.merge(coco_mask.frPyObjects(mask, *size))
    return coco_mask.frPyObjects(mask, *size) if type(mask['counts']) is list else mask


def clipped(corners: Box, size: tuple[int, int]) -> Box:
    """Clip left, top, right and bottom to an image of `size`, height and width."""
    return tuple(min(max(value, 0), size[1 - i % 2]) for i, value in enumerate(corners))
