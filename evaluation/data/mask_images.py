"""Segmentation maps with the indices 0, 1, ... from masks with any values."""

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from evaluation.data.bad_images import THREADS, bad_files
from evaluation.data.image_files import FORMATS, BadFileError, check_upright, read_whole
from evaluation.data.image_loading import LoadCheckedImage
from evaluation.data.segmentation_map import IGNORED, check_bits, check_header
from evaluation.utils.errors import UserError

VALUES = 256
REMEDY = 'restore it, or remove the image and its mask'
CLASS_FILE = 'classes.txt'
# Masks of one class often have these values: background and object.
BACKGROUND, OBJECT = BINARY = (0, 255)
LOAD = LoadCheckedImage()


@dataclass(frozen=True)
class MaskFacts:
    """Facts of an image and its mask.

    Attributes:
        size: height and width in pixels.
        counts: (256,) int64, pixels of each value.
        warning: doubt about the image, or None.
    """

    size: tuple[int, int]
    counts: np.ndarray
    warning: BadFileError | None


@dataclass(frozen=True)
class MaskClasses:
    """Classes of masks.

    Attributes:
        names: names of the classes, in the order of the labels.
        values: value of each class in the masks.
        unused: names in `classes.txt` whose value no mask has.
    """

    names: list[str]
    values: list[int]
    unused: list[str]


def examine_masks(root: Path, pairs: Sequence[tuple[str, str]]) -> list[MaskFacts]:
    """Load every image and its mask, as training does.

    Args:
        root: the data set folder.
        pairs: paths of images and masks relative to it.

    Raises:
        UserError: a file cannot be used; the message names the first.
    """
    facts: dict[str, MaskFacts] = {}

    def read(pair: tuple[str, str]) -> None:
        facts[pair[0]] = _facts(root, *pair)

    bad = list(bad_files(pairs, read, THREADS, 'images and masks'))
    if bad:
        raise UserError(f'{len(bad)} of the {len(pairs)} images with masks cannot be used: {bad[0][1]}')
    return [facts[image] for image, _ in pairs]


def read_mask(path: str, size: tuple[int, int]) -> np.ndarray:
    """Read a mask of class values.

    Args:
        path: path of a PNG with one 8-bit value per pixel, grayscale or with a palette.
        size: height and width of its image.

    Returns:
        (H, W) uint8; a mask of 1 bit per pixel has the values 0 and 1.

    Raises:
        BadFileError: the file cannot be used, is in color, or has a different size than the image.
    """
    content = read_whole(path, None, REMEDY)
    check_bits(content, path)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            check_header(picture, path, size, REMEDY)
            return np.asarray(picture).astype(np.uint8)
    except BadFileError:
        raise
    # Decoders can raise any exception on corrupt data.
    except Exception:
        raise BadFileError(f'{path} cannot be decoded as an image; {REMEDY}') from None


def classes_of_masks(root: Path, facts: Sequence[MaskFacts], ignored: Collection[int]) -> MaskClasses:
    """Return the classes of all masks: each value is one, except for the ignored ones.

    `classes.txt` in the data set folder names them: line n, from 0, is the name of the value n. If the
    only values are 0 and 255, both are classes.

    Args:
        root: the data set folder.
        facts: facts of all masks.
        ignored: values that mean no class.

    Raises:
        UserError: there are fewer than two classes, or `classes.txt` does not name each of them.
    """
    found = np.flatnonzero(sum(each.counts for each in facts)).tolist()
    is_binary = found == [*BINARY] and {*ignored} == {IGNORED}
    values = found if is_binary else [value for value in found if value not in ignored]
    if len(values) < 2:
        raise UserError(
            f'the masks in {root} have the values {", ".join(map(str, found))}, without the ignored '
            f'{", ".join(map(str, sorted(ignored)))} fewer than two classes; give masks of two or more '
            'classes, where the background is one, or change --ignore'
        )
    names = _names_in(root / CLASS_FILE)
    if names is None:
        names = ['background', 'object'] if is_binary else [f'value {value}' for value in values]
        return MaskClasses(names, values, [])
    if is_binary and len(names) == len(values):
        return MaskClasses(names, values, [])
    if unnamed := [value for value in values if value >= len(names)]:
        raise UserError(
            f'{root / CLASS_FILE} names the values 0 to {len(names) - 1}, but masks have the value '
            f'{unnamed[0]}; give it a name, or ignore it with --ignore'
        )
    unused = [name for value, name in enumerate(names) if value not in values and value not in ignored]
    return MaskClasses([names[value] for value in values], values, unused)


def label_counts(facts: MaskFacts, classes: MaskClasses) -> dict[str, int]:
    """Return the number of pixels of each class that a mask has."""
    counts = zip(classes.names, facts.counts[classes.values].tolist(), strict=True)
    return {name: count for name, count in counts if count}


def write_maps(
    folder: Path,
    root: Path,
    pairs: Sequence[tuple[str, str]],
    facts: Sequence[MaskFacts],
    classes: MaskClasses,
) -> None:
    """Write each mask as `folder/IMAGE.png` with the label of each class, and 255 for no class.

    Args:
        folder: folder of the maps.
        root: the data set folder.
        pairs: names of the images in the lists, and paths of the masks relative to `root`.
        facts: facts of the masks.
        classes: classes of the masks.
    """
    labels = np.full(VALUES, IGNORED, np.uint8)
    labels[classes.values] = np.arange(len(classes.values))
    for (image, mask), each in zip(pairs, facts, strict=True):
        path = folder / f'{image}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        content = cv2.imencode('.png', labels[read_mask(str(root / mask), each.size)])[1]
        path.write_bytes(content.tobytes())


def _facts(root: Path, image: str, mask: str) -> MaskFacts:
    path = str(root / image)
    size = LOAD.transform({'img_path': path})['ori_shape']
    counts = np.bincount(read_mask(str(root / mask), size).ravel(), minlength=VALUES)
    warning = None
    try:
        check_upright(Path(path).read_bytes(), path)
    except BadFileError as error:
        warning = error
    return MaskFacts(size, counts, warning)


def _names_in(file: Path) -> list[str] | None:
    """Return the names in a class file; None if there is none.

    Raises:
        UserError: the file cannot be read, or a name is empty or occurs twice.
    """
    if not file.exists():
        return None
    try:
        names = [line.strip() for line in file.read_text(encoding='utf-8-sig').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{file} cannot be read ({error}); give one name per line, as UTF-8') from error
    for number, name in enumerate(names):
        if not name or names.count(name) > 1:
            what = 'is empty' if not name else f'has the name {name!r} of another line'
            raise UserError(f'{file}, line {number + 1}, {what}; give each value a name of its own')
    return names
