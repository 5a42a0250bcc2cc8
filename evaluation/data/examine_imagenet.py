"""Examination of data in ImageNet's layouts."""

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from evaluation.data.bad_images import bad_files, reason
from evaluation.data.findings import IMAGENET_SPLITS, Examination
from evaluation.data.image_files import files_below, leads_out, visible_files_below
from evaluation.data.image_loading import LoadCheckedImage
from evaluation.data.imagenet import REFERENCE_SPLIT, class_folders, listed_image
from evaluation.utils.errors import UserError

# As in the recipe of the classifiers.
LOAD = LoadCheckedImage(color_type='color')

# Name of an image, relative to the split's folder, and its label or class name.
Entry = tuple[str, int | str]


def examine_imagenet(examination: Examination, num_classes: int | None, workers: int) -> None:
    """Examine every image of a data root, and check that the splits have the same classes.

    Args:
        examination: examination that findings are added to.
        num_classes: expected number of classes; None for the number in the training images.
        workers: number of threads.

    Raises:
        UserError: no split has a list or a folder.
    """
    root = examination.root
    entries = {
        split: images_of(examination, split) for split in IMAGENET_SPLITS if _is_there(root, split)
    }
    if not entries:
        raise UserError(f'{root} has neither train/ nor val/, nor a list of their images in meta/')
    compare_classes(examination, entries, num_classes)
    for split in entries:
        examine_listed(examination, split, entries[split], workers)


def examine_listed(examination: Examination, split: str, entries: Sequence[Entry], workers: int) -> None:
    """Examine the images of a split."""
    folder = examination.root / split
    there = files_below(folder)
    examination.counts['images'] += len(entries)
    present = [entry for entry in entries if os.path.normpath(entry[0]) in there]
    for name in sorted({entry[0] for entry in entries} - {entry[0] for entry in present}):
        examination.add('missing images', f'{split}/{name}', 'is missing')
    # Report an image only once even if it is listed twice.
    bad = dict(bad_files(present, partial(load, folder), workers, split))
    for (name, _), error in bad.items():
        examination.add(error.kind, f'{split}/{name}', reason(error, str(folder / name)))


def load(folder: Path, entry: Entry) -> None:
    """Load an image as in training.

    Raises:
        BadFileError: the image cannot be used.
    """
    LOAD.transform({'img_path': str(folder / entry[0])})


def has_list(root: Path, split: str) -> bool:
    """Return whether a file lists the images of a split with their labels."""
    return (root / 'meta' / f'{split}.txt').is_file()


def images_of(examination: Examination, split: str) -> list[Entry]:
    """Return the images of a split; add findings about their names."""
    if has_list(examination.root, split):
        return _from_list(examination, Path('meta', f'{split}.txt'))
    return _from_folders(examination, split)


def compare_classes(
    examination: Examination, entries: dict[str, list[Entry]], num_classes: int | None
) -> None:
    """Find classes missing from a split, labels without images, and a wrong number of classes."""
    classes = {split: {label for _, label in images} for split, images in entries.items()}
    examination.counts['classes'] = len(set().union(*classes.values()))
    for split, labels in classes.items():
        for other in classes.keys() - {split}:
            for missing in sorted(classes[other] - labels, key=str):
                text = f'has no image, but {other} has some'
                examination.add('classes missing from one split', f'{split}: class {missing}', text)
        if num_classes is not None:
            _count_classes(examination, split, labels, num_classes)
    numbers = {label for labels in classes.values() for label in labels if type(label) is int}
    lacking = max(numbers, default=-1) + 1 - len(numbers)
    if lacking:
        first = next(label for label in range(max(numbers)) if label not in numbers)
        subject, verb = ('label', 'has') if lacking == 1 else (f'{lacking:,} labels such as', 'have')
        examination.add('labels without images', f'{subject} {first}', f'{verb} no image')


def _count_classes(
    examination: Examination, split: str, labels: set[int | str], num_classes: int
) -> None:
    """Compare the classes of a split with those of a network, as in training."""
    numbers = [label for label in labels if type(label) is int]
    listed = max(numbers) + 1 if numbers else len(labels)
    found = max(listed, len(class_folders(examination.root / split)))
    if found > num_classes:
        text = f'has {found:,} classes, more than {num_classes:,}'
        examination.add('labels out of range', split, text)
    elif found < num_classes and split == REFERENCE_SPLIT:
        text = f'has {found:,} classes, fewer than {num_classes:,}'
        examination.add('fewer classes than expected', split, text)


def _is_there(root: Path, split: str) -> bool:
    return has_list(root, split) or bool(class_folders(root / split))


def _from_folders(examination: Examination, split: str) -> list[Entry]:
    entries: list[Entry] = []
    for name in class_folders(examination.root / split):
        files = sorted(visible_files_below(examination.root / split / name))
        images = [file for file in files if file.lower().endswith(IMG_EXTENSIONS)]
        entries += [(f'{name}/{file}', name) for file in images]
        if not images:
            examination.add('classes without images', f'{split}/{name}', 'has no image')
        for file in sorted({*files} - {*images}):
            text = 'does not have the extension of an image, so it is not found'
            examination.add('files that are not images', f'{split}/{name}/{file}', text)
    return entries


def _from_list(examination: Examination, file: Path) -> list[Entry]:
    path = examination.root / file
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read ({error})') from error
    entries = []
    for number, line in enumerate(lines, start=1):
        entry = listed_image(line)
        if entry and leads_out(entry[0]):
            text = f'has {entry[0]!r}, which points outside the image folder'
            examination.add(
                'file names that point outside the image folder', f'{file}, line {number}', text
            )
        elif entry:
            entries.append(entry)
        elif line.strip():
            text = f'is {line!r}, not a name and a label'
            examination.add('malformed lines', f'{file}, line {number}', text)
    for name, count in Counter(os.path.normpath(name) for name, _ in entries).items():
        if count > 1:
            examination.add('duplicate file names', f'{file}: {name}', f'is listed {count} times')
    return entries
