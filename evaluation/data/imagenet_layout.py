"""Which image is of which class, in the two layouts that ImageNet comes in."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from torchvision.datasets.folder import IMG_EXTENSIONS

from evaluation.data.listing import leads_out, visible_files_below
from evaluation.utils.errors import UserError

LAYOUT = 'train/ and val/ with a folder a class, or meta/train.txt and meta/val.txt'
# Labels number classes; nobody has so many.
MOST_CLASSES = 1_000_000
# Where the folders of classes are looked for by a split that has none itself.
REFERENCE_SPLIT = 'train'


def labelled_images(root: Path, split: str) -> list[tuple[str, int]]:
    """Names, relative to the split's folder, and labels of all images of a split.

    They come from `meta/<split>.txt`, whose lines are a name and a label, where there is one
    (OpenMMLab's layout), else from folders of classes, whose place in the alphabet is the label
    (torchvision's ImageFolder).

    Args:
        root: of the data set.
        split: `train` or `val`.

    Raises:
        UserError: neither is there, a line is malformed, or a folder of a class has no image.
    """
    listing = root / 'meta' / f'{split}.txt'
    if listing.is_file():
        return _listed(listing)
    classes = class_folders(root / split)
    if not classes:
        raise UserError(f'{root} has no {split} images with labels; the data root must have {LAYOUT}')
    labels = {name: label for label, name in enumerate(_reference(root, split, classes))}
    return [entry for name in classes for entry in _images_of(root / split, name, labels[name])]


def class_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, in the order of the alphabet."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def class_names(root: Path, split: str, images: Sequence[tuple[str, int]]) -> list[str]:
    """Names of the classes by label: those of their folders, else their numbers."""
    count = max((label for _, label in images), default=-1) + 1
    for folder in (split, REFERENCE_SPLIT):
        names = class_folders(root / folder)
        if len(names) >= count:
            return names
    return [str(label) for label in range(count)]


def _reference(root: Path, split: str, classes: Sequence[str]) -> Sequence[str]:
    """Classes by label: those of the training, so that one without images here shifts no other."""
    known = class_folders(root / REFERENCE_SPLIT)
    strange = sorted({*classes} - {*known}) if known else []
    if strange:
        raise UserError(
            f'{root / split} has the class {strange[0]}, which {root / REFERENCE_SPLIT} has not; '
            'both must have the same classes'
        )
    return known or classes


def _images_of(folder: Path, name: str, label: int) -> list[tuple[str, int]]:
    files = sorted(map(PurePath, visible_files_below(folder / name)))
    images = [file for file in files if file.suffix.lower() in IMG_EXTENSIONS]
    if not images:
        raise UserError(f'{folder / name} has no image; fill it, or remove the folder')
    return [(str(name / file), label) for file in images]


def _listed(listing: Path) -> list[tuple[str, int]]:
    entries = []
    try:
        lines = listing.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{listing} cannot be read: {error}') from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = listed_image(line)
        if entry is None:
            raise UserError(f'{listing}, line {number}: {line!r} is not a name and a label; mend it')
        if leads_out(entry[0]):
            raise UserError(
                f'{listing}, line {number}: {line!r} leads out of the folder of images; mend it'
            )
        entries.append(entry)
    if not entries:
        raise UserError(f'{listing} lists no image; a line has a name and a label')
    return entries


def listed_image(line: str) -> tuple[str, int] | None:
    """Name and label of a line of `meta/<split>.txt`; None where it has not both."""
    name, _, label = line.rpartition(' ')
    is_label = label.isascii() and label.isdecimal() and len(label) <= len(str(MOST_CLASSES))
    return (name, int(label)) if name and '\0' not in name and is_label else None
