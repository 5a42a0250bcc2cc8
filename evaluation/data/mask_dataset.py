"""Data sets of segmentation masks."""

import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from evaluation.data.coco_file import listed
from evaluation.data.dataset_folder import (
    MASKS,
    PREPARED,
    TRAIN,
    VAL,
    DatasetFolder,
    folder_split_of,
    pairs_of,
)
from evaluation.data.findings import Examination
from evaluation.data.mask_images import (
    MaskClasses,
    MaskFacts,
    classes_of_masks,
    examine_masks,
    label_counts,
    write_maps,
)
from evaluation.data.prepared_dataset import (
    MOST_NAMES,
    PARTS,
    Options,
    Part,
    Prepared,
    Split,
    class_table,
    describe,
    split_images,
)
from evaluation.data.recipe_page import NewData, segmentation_page, segmentation_schedule
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_text


def prepare_masks(options: Options, folder: DatasetFolder, name: str) -> Prepared:
    """Prepare a data set of masks.

    Args:
        options: options of the command.
        folder: files of the data set.
        name: name of the recipe.

    Raises:
        UserError: images or masks cannot be used.
    """
    root, pairs = options.root, pairs_of(folder)
    facts = examine_masks(root, pairs)
    classes = classes_of_masks(root, facts, options.ignored)
    present = [label_counts(each, classes) for each in facts]
    images = [image for image, _ in pairs]
    split = split_images(images, present, [folder_split_of(image) for image in images], options)
    parts = {part: _mask_part(part, split, images, present, facts) for part in PARTS}
    for part, own in parts.items():
        if not any(own.classes):
            raise UserError(f'{root}: no {part} image has a class; give masks that have one')
    counts = len(parts[TRAIN].images), len(parts[VAL].images)
    # Folders of images, not the whole data root, belong to the digest of the data.
    kept = [os.path.dirname(image) for part in parts.values() for image in part.images]
    common = os.path.commonpath(kept)
    data = NewData(name, str(root), f'{PREPARED}/{name}', classes.names, counts, common)
    lists = {part: _list_of_names(own.images, common) for part, own in parts.items()}
    description = describe(
        data,
        'UperNet on masks',
        class_table(parts, classes.names, 'pixels'),
        parts,
        split.text,
        segmentation_schedule(counts[0]).text,
        _about_values(classes, options.ignored),
        _mask_findings(root, facts, split),
    )
    used = [index for index, part in enumerate(split.parts) if part]
    named = [(os.path.relpath(pairs[i][0], common or '.'), pairs[i][1]) for i in used]
    write = partial(_write_masks, lists, root, named, [facts[i] for i in used], classes)
    return Prepared(data, segmentation_page(data), description, parts, write)


def _write_masks(
    lists: Mapping[str, str],
    root: Path,
    pairs: Sequence[tuple[str, str]],
    facts: Sequence[MaskFacts],
    classes: MaskClasses,
    folder: Path,
) -> None:
    write_maps(folder / 'maps', root, pairs, facts, classes)
    for part, content in lists.items():
        write_text(folder / f'{part}.txt', content)


def _mask_part(
    part: str,
    split: Split,
    images: Sequence[str],
    present: Sequence[Mapping[str, int]],
    facts: Sequence[MaskFacts],
) -> Part:
    own = [index for index, each in enumerate(split.parts) if each == part]
    return Part([images[i] for i in own], [present[i] for i in own], [facts[i].size for i in own])


def _about_values(classes: MaskClasses, ignored: Collection[int]) -> list[str]:
    left = sorted({*ignored} - {*classes.values})
    lines = [f'Values of the classes in the masks: {", ".join(map(str, classes.values))}'] + [
        f'ignored: {", ".join(map(str, left))}'
    ] * bool(left)
    unused = [f'Names whose value no mask has, left out: {listed(classes.unused, MOST_NAMES)}.']
    return ['; '.join(lines) + '.', *unused * bool(classes.unused)]


def _mask_findings(root: Path, facts: Sequence[MaskFacts], split: Split) -> Examination:
    examination = Examination(root, MASKS)
    examination.counts['images'] = examination.counts['masks'] = len(facts)
    for each, part in zip(facts, split.parts, strict=True):
        if each.warning and part:
            subject, _, text = str(each.warning).partition(' ')
            examination.add(each.warning.kind, subject, text)
    return examination


def _list_of_names(images: Sequence[str], folder: str) -> str:
    """Return the lines of a file that lists images.

    Raises:
        UserError: a name has spaces at its ends or a line break, which such files do not keep.
    """
    names = [os.path.relpath(image, folder or '.') for image in images]
    for name in names:
        if name != name.strip() or len(name.splitlines()) > 1:
            raise UserError(
                f'the image {name!r} has a space at an end of its name, or a line break; rename it'
            )
    return ''.join(f'{name}\n' for name in names)
