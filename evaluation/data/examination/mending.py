"""A new data root with what is good of an examined one."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from evaluation.data.examination.coco import (
    DIFFERENT_CATEGORIES,
    annotation_files,
    image_folder,
    misnumbered,
    read_content,
)
from evaluation.data.examination.coco_mending import mended
from evaluation.data.examination.findings import Examination
from evaluation.data.examination.imagenet import Entry, has_list
from evaluation.data.examination.links import link, link_files
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes, write_text


def mend_coco(examination: Examination, folder: Path, with_masks: bool = True) -> list[str]:
    """Write annotation files without what is wrong, beside links to the folders of images.

    Args:
        examination: with the findings.
        folder: where to write.
        with_masks: whether an annotation must have a mask.

    Returns:
        what was done, a line a file.

    Raises:
        UserError: the files have different categories, or nothing is left of one or of all.
    """
    root = examination.root
    subjects = {finding.subject for finding in examination.findings}
    said = []
    for file in annotation_files(root):
        images = image_folder(root, file)
        if not images.is_dir():
            said.append(f'{file.name}: left out, since {images.name} is missing')
            continue
        content = read_content(file)
        bad = {
            os.path.normpath(os.path.relpath(subject, images.name))
            for subject in subjects
            if subject.startswith(f'{images.name}{os.sep}')
        }
        bad |= {os.path.normpath(name) for name in misnumbered(content['images'])}
        try:
            mended_content, done = mended(content, bad, with_masks)
        except UserError as error:
            raise UserError(f'{file}: {error}') from error
        write_bytes(folder / 'annotations' / file.name, json.dumps(mended_content).encode())
        link(images, folder / images.name)
        changes = ', '.join(f'{count:,} {what}' for what, count in done.items()) or 'nothing to do'
        said.append(f'{file.name}: {changes}')
    for finding in examination.by_kind().get(DIFFERENT_CATEGORIES, ()):
        raise UserError(f'--fix: {finding.subject} {finding.text}; correct the categories by hand')
    if not (folder / 'annotations').exists():
        raise UserError(f'--fix: no folder of images is in {root}; get them, and put them there')
    return said


def mend_ade20k(examination: Examination, good: dict[str, list[str]], folder: Path) -> list[str]:
    """Link the good pairs of images and maps.

    Returns:
        what was done, a line a split.
    """
    said = []
    for split, names in good.items():
        _check_not_empty(split, names)
        for kind, ending in (('images', '.jpg'), ('annotations', '.png')):
            files = [f'{name}{ending}' for name in names]
            link_files(examination.root / kind / split, folder / kind / split, files)
        said.append(f'{split}: {len(names):,} images with maps linked')
    return said


def mend_imagenet(
    examination: Examination, good: dict[str, list[Entry]], folder: Path, num_classes: int | None
) -> list[str]:
    """Link the good images, of classes that all splits have, and list them where lists were given.

    Returns:
        what was done, a line a split.

    Raises:
        UserError: labels of a list would have to be numbered anew, or other than `num_classes` classes
            are left.
    """
    root = examination.root
    good = {
        split: [e for e in entries if _is_below(e[1], num_classes)] for split, entries in good.items()
    }
    classes = set.intersection(*({label for _, label in entries} for entries in good.values()))
    all_classes = set().union(*({label for _, label in entries} for entries in good.values()))
    is_listed = any(has_list(root, split) for split in good)
    if is_listed and classes != {*range(len(classes))}:
        raise UserError(
            f'--fix: labels of {root} would have to be numbered anew, and another data set might have '
            'the old ones; correct the lists by hand'
        )
    if num_classes is not None and len(classes) != num_classes:
        raise UserError(
            f'--fix: of {root}, {len(classes):,} classes would be left, and not the {num_classes:,} of '
            '--num-classes; give another number, or correct the data by hand'
        )
    said = []
    for split, entries in good.items():
        kept = _first_of_each_file(entry for entry in entries if entry[1] in classes)
        _check_not_empty(split, kept)
        link_files(root / split, folder / split, [name for name, _ in kept])
        if has_list(root, split):
            lines = ''.join(f'{name} {label}\n' for name, label in kept)
            write_text(folder / 'meta' / f'{split}.txt', lines)
        said.append(f'{split}: {len(kept):,} images linked')
    if classes != all_classes:
        names = ', '.join(sorted(map(str, all_classes - classes))[:3])
        said.append(f'{len(all_classes - classes)} classes left out ({names}): give num_classes anew')
    return said


def _is_below(label: int | str, num_classes: int | None) -> bool:
    """Whether a label is one of so many classes; names of folders have no number."""
    return num_classes is None or type(label) is str or label < num_classes


def _first_of_each_file(entries: Sequence[Entry]) -> list[Entry]:
    return list({os.path.normpath(entry[0]): entry for entry in reversed([*entries])}.values())[::-1]


def _check_not_empty(split: str, kept: Sequence) -> None:
    if not kept:
        raise UserError(f'--fix: nothing of {split} that can be used is left; get the data again')
