"""Digest of a data set: equal where images and truth are, wherever they lie."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import ConfigDict

from evaluation.data.dataset_config import path_of, plain_datasets
from evaluation.data.image_files import files_below
from evaluation.data.imagenet import labelled_images
from evaluation.utils.files import file_sha256


def data_sha256(dataset: ConfigDict) -> str | None:
    """Return a SHA-256 of the files that a data set's config names; images are not read.

    Of annotations in a file it is their bytes; of images with segmentation maps, names and sizes in
    bytes of all files; of images in folders of classes, names and labels; of each, what
    `--skip-bad-images` left out. Which part of it a config takes is in the config's digest.

    Args:
        dataset: config of a data set, or of one that repeats or joins others.

    Returns:
        None where a data set is of a kind whose files are not known.

    Raises:
        OSError: a file cannot be read.
        UserError: images with labels are in no layout that is known.
    """
    facts = [list(_facts(part)) for part in plain_datasets(dataset)]
    if not all(facts):
        return None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _facts(dataset: ConfigDict) -> Iterator[list]:
    if dataset.get('split'):
        yield ['labels', *labelled_images(path_of(dataset, ''), dataset.split)]
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
