"""Parts, paths, class, class names and digest of a data set, from its config."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from evaluation.data.coco_file import listed
from evaluation.data.image_files import files_below
from evaluation.data.imagenet import labeled_images
from evaluation.utils.errors import UserError
from evaluation.utils.files import file_sha256


def plain_datasets(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the configs of data sets inside wrappers that repeat or join them."""
    inner = dataset.get('datasets', [dataset.dataset] if 'dataset' in dataset else [])
    if not inner:
        yield dataset
    for part in inner:
        yield from plain_datasets(part)


def path_of(dataset: ConfigDict, name: str) -> Path:
    """Return the path of a name relative to a data set's root."""
    return Path(dataset.get('data_root') or '', name)


def dataset_class(dataset: ConfigDict, scope: str) -> type:
    """Return the class of a data set, looked up in the library of a scope."""
    # A data set with skipped images has its original type in `dataset_type`.
    name = dataset.get('dataset_type', dataset.type)
    return DATASETS.get(name if '.' in name else f'{scope}.{name}')


def class_names(dataset: ConfigDict, scope: str) -> list[str]:
    """Return the names of a data set's classes, in the order of the labels.

    Raises:
        UserError: there are no names, they are a string instead of a list, or the data set does not
            have a class of that name.
    """
    known = dataset_class(dataset, scope).METAINFO.get('classes')
    own = dataset.get('metainfo', {}).get('classes', known)
    if own is None:
        raise UserError(f'a data set of type {dataset.type} needs metainfo.classes, a list of names')
    if type(own) is str and not Path(own).is_file():
        raise UserError(f"metainfo.classes is the string '{own}'; for a single class write ['{own}']")
    if type(own) is str:
        own = Path(own).read_text(encoding='utf-8').splitlines()
    if scope == 'mmseg' and known:
        # mmseg maps labels to a subset of its classes; mmdet uses the names in the annotation file.
        strange = [name for name in own if name not in known]
        if strange:
            raise UserError(
                f'{dataset.type} has no class {listed(strange)}; for custom classes use BaseSegDataset'
            )
    return list(own)


def lister_of(dataset: ConfigDict, scope: str) -> str:
    """Return the name of the function that lists a data set's images, which identifies its file format.

    The class does not identify it: a subclass can read files in a different format.
    """
    return dataset_class(dataset, scope).load_data_list.__qualname__


def step_name(step: dict) -> str:
    """Return the name of a transform in a config, without its library."""
    kind = step['type']
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]


def data_sha256(dataset: ConfigDict) -> str | None:
    """Return a SHA-256 of the files that a data set's config names, without reading images.

    The digest covers the bytes of annotation files; names and sizes in bytes of images and segmentation
    maps; names and labels of images in class folders; and the images skipped by `--skip-bad-images`. It
    does not cover which subset a config uses; that is in the config's digest.

    Args:
        dataset: config of a data set, or of one that repeats or joins others.

    Returns:
        The digest, or None if the file format of a data set is unknown.

    Raises:
        OSError: a file cannot be read.
        UserError: images with labels are in an unknown layout.
    """
    facts = [list(_facts(part)) for part in plain_datasets(dataset)]
    if not all(facts):
        return None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _facts(dataset: ConfigDict) -> Iterator[list]:
    if dataset.get('split'):
        yield ['labels', *labeled_images(path_of(dataset, ''), dataset.split)]
    elif dataset.get('ann_file'):
        yield ['annotations', file_sha256(path_of(dataset, dataset.ann_file))]
    prefixes = dataset.get('data_prefix', {})
    if 'seg_map_path' in prefixes:
        for name, folder in sorted(prefixes.items()):
            yield [name, *_names_and_sizes(path_of(dataset, folder))]
    if dataset.get('left_out'):
        yield ['left out', *sorted(dataset.left_out)]


def _names_and_sizes(folder: Path) -> list[tuple[str, int]]:
    return [(name, os.path.getsize(folder / name)) for name in sorted(files_below(folder))]
