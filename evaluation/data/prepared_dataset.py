"""A data set that is ready for a recipe: its split, its description and what will be written."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.data.coco_file import listed
from evaluation.data.dataset_folder import TEST, TRAIN, VAL
from evaluation.data.findings import Examination, as_text
from evaluation.data.recipe_page import NewData
from evaluation.data.stratified_split import stratified_split
from evaluation.utils.errors import UserError
from evaluation.utils.text_tables import Cell, Column, Table, to_markdown

PARTS = (TRAIN, VAL)
EXAMPLES = 3
# Maximum number of class names in a line.
MOST_NAMES = 10


@dataclass(frozen=True)
class Options:
    """Options of `tools/new_dataset.py`.

    Attributes:
        root: the data set folder.
        name: name of the recipe; None for that of the folder.
        kind: format of the annotations; None to recognize it.
        boxes: whether masks of objects are ignored.
        ignored: values of masks that mean no class.
        share: share of the images to validate on, if the data have no split.
        seed: seed of that split.
        force: whether files of an earlier call may be replaced.
        pages: folder of the recipe pages.
    """

    root: Path
    name: str | None
    kind: str | None
    boxes: bool
    ignored: Collection[int]
    share: float
    seed: int
    force: bool
    pages: Path


@dataclass(frozen=True)
class Split:
    """Training and validation images.

    Attributes:
        parts: for each image, `train`, `val`, or None if it is left out.
        text: how they were chosen.
    """

    parts: list[str | None]
    text: str


@dataclass(frozen=True)
class Part:
    """Images of one split.

    Attributes:
        images: paths of the images, relative to the data root.
        classes: number of objects, or pixels, of each class in each image.
        sizes: height and width of each image.
    """

    images: list[str]
    classes: list[Mapping[str, int]]
    sizes: list[tuple[int, int]]


@dataclass(frozen=True)
class Prepared:
    """What will be written for a data set.

    Attributes:
        data: facts for the recipe page.
        page: text of the page.
        description: text to print.
        parts: training and validation images.
        write: function that writes the annotations to a folder.
    """

    data: NewData
    page: str
    description: str
    parts: Mapping[str, Part]
    write: Callable[[Path], None]


def split_images(
    images: Sequence[str],
    classes: Sequence[Collection[str]],
    given: Sequence[str | None],
    options: Options,
) -> Split:
    """Return the split that the data have, or a stratified one.

    Args:
        images: paths of the images.
        classes: classes in each image.
        given: split of each image according to folders or files; None if they name none.
        options: options of the command.

    Raises:
        UserError: only some images have a split, or there are too few images with objects.
    """
    tested = [split == TEST for split in given]
    if all(tested):
        tested = [False] * len(images)
    known = {split for split, is_tested in zip(given, tested, strict=True) if not is_tested}
    left_out = f'; {sum(tested)} test images are left out' if any(tested) else ''
    if known == {*PARTS}:
        parts = [None if is_tested else split for split, is_tested in zip(given, tested, strict=True)]
        return Split(parts, f'as the files state{left_out}')
    if len(known) > 1:
        alone = next(image for image, split in zip(images, given, strict=True) if split is None)
        raise UserError(
            f'{options.root}: some images belong to {" and ".join(sorted(filter(None, known)))}, and '
            f'some to no split, such as {alone}; move each to a folder named train or val'
        )
    kept = [index for index, is_tested in enumerate(tested) if not is_tested]
    if (count := sum(bool(classes[index]) for index in kept)) < 2:
        raise UserError(
            f'{options.root} has {len(kept)} images, {count} with annotations; give at least two, one '
            'to train on and one to validate on'
        )
    names, labels = [images[i] for i in kept], [classes[i] for i in kept]
    chosen = stratified_split(names, labels, options.share, options.seed)
    parts: list[str | None] = [None] * len(images)
    for index, is_validated in zip(kept, chosen, strict=True):
        parts[index] = VAL if is_validated else TRAIN
    return Split(parts, f'chosen by class with seed {options.seed}{left_out}')


def class_table(parts: Mapping[str, Part], classes: Sequence[str], unit: str) -> str:
    """Return a table of the classes with their numbers of images, and of objects or pixels."""
    columns = [('class', False), *((text, True) for text in ('images', unit, 'training', 'validation'))]
    rows = []
    for name in classes:
        having = [sum(name in each for each in parts[part].classes) for part in PARTS]
        total = sum(each.get(name, 0) for part in PARTS for each in parts[part].classes)
        rows.append(
            tuple(Cell(text) for text in (name, *(f'{n:,}' for n in (sum(having), total, *having))))
        )
    heading = tuple(Column(text, text, numeric) for text, numeric in columns)
    return to_markdown(Table('Classes', heading, (tuple(rows),), ()))


def describe(
    data: NewData,
    model: str,
    table: str,
    parts: Mapping[str, Part],
    split: str,
    schedule: str,
    notes: Sequence[str],
    examination: Examination,
) -> str:
    """Return the description of the data."""
    train, val = data.counts
    sizes = Counter(size for part in parts.values() for size in part.sizes).most_common()
    most = ', '.join(f'{width}x{height} ({count:,})' for (height, width), count in sizes[:EXAMPLES])
    rest = f' and {len(sizes) - EXAMPLES:,} more sizes' if len(sizes) > EXAMPLES else ''
    lines = [
        f'{data.name}: {train + val:,} images in {data.root}, for {model}',
        '',
        table,
        *notes,
        f'Image sizes, width x height: {most}{rest}.',
        f'Split: {train:,} training and {val:,} validation images, {split}.',
        *_gaps(parts, data.classes),
        f'Schedule: {schedule}.',
        '',
        as_text(examination, EXAMPLES),
    ]
    return '\n'.join(lines)


def _gaps(parts: Mapping[str, Part], classes: Sequence[str]) -> list[str]:
    """Return lines about classes that one of the two parts lacks."""
    lines = []
    for part, text in ((TRAIN, 'training'), (VAL, 'validation')):
        present = {name for each in parts[part].classes for name in each}
        lacking = [name for name in classes if name not in present]
        lines += [f'Classes without {text} images: {listed(lacking, MOST_NAMES)}.'] * bool(lacking)
    return lines
