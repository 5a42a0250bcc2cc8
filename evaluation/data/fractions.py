"""Train on a fixed share of the training images: `--fraction 0.1 --fraction-seed 0`.

The images are sorted by a hash of the seed and their id, and the first ones are taken. So the list
depends on the ids alone, not on the order of files, a library or a machine, and a smaller share is part
of a larger one of the same seed. The data set keeps its length, by repeating the images, so that epochs,
schedules, evaluations and checkpoints come at the same iterations as with all images.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from evaluation.config.recipe import check_stated_by_command
from evaluation.data.bad_images import relative_name
from evaluation.data.dataset_config import data_sha256, plain_datasets
from evaluation.data.image_loading import build_dataset
from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text, write_json

FILE = 'training_images.json'
LOADER = 'train_dataloader'
# Settings of `dataset_of_fraction`, besides those of the data set.
OWN = ('dataset_type', 'fraction', 'fraction_seed', 'images_sha256', 'left_out')


@dataclass(frozen=True)
class ImageList:
    """The training images of a fraction.

    Attributes:
        fraction: share of the images.
        fraction_seed: seed of the list.
        data_sha256: digest of all training data, as in `result.json`; None if their format is unknown.
        available: number of images that the fraction is a share of.
        images: ids of the images, the first ones of smaller fractions first: COCO's ids, otherwise file
            names relative to the data root.
    """

    fraction: float
    fraction_seed: int
    data_sha256: str | None
    available: int
    images: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of the ids in their order."""
        return hashlib.sha256(json.dumps(self.images).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the list to `training_images.json` in a work dir."""
        write_json(folder / FILE, {'sha256': self.sha256, **asdict(self)})


def read_list(file: Path) -> ImageList:
    """Read a list that a training wrote.

    Raises:
        UserError: the file cannot be read, or is not such a list.
    """
    try:
        content = json.loads(read_text(file))
        digest = content.pop('sha256')
        found = ImageList(**{**content, 'images': tuple(content['images'])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f'--fraction {file} is not a list of training images; give {FILE} of a work dir, or a '
            'number between 0 and 1'
        ) from error
    check_stated_by_command(f'--fraction {file}', asdict(found))
    if found.fraction is None:
        raise UserError(f'--fraction {file} states no fraction; give the file as it was written')
    if found.sha256 != digest:
        raise UserError(f'--fraction {file}: its images were changed; give the file as it was written')
    return found


def chosen_images(ids: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Return the indices of a share of the images, the first ones of smaller shares first.

    Args:
        ids: ids of all images, in any order.
        fraction: share, between 0 and 1; the number of images is rounded.
        seed: seed of the list.
    """

    def rank(index: int) -> tuple[bytes, str]:
        return hashlib.sha256(f'{seed} {ids[index]}'.encode()).digest(), ids[index]

    return sorted(range(len(ids)), key=rank)[: round(fraction * len(ids))]


def image_ids(dataset: BaseDataset) -> list[str]:
    """Return the id of every image: that of COCO, otherwise its file name relative to the data root."""
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return [
        str(info['img_id']) if 'img_id' in info else relative_name(dataset, info['img_path'])
        for info in infos
    ]


def use_fraction(cfg: Config, list_file: Path | None = None) -> ImageList | None:
    """Train on the fraction that the recipe of a config states.

    Args:
        cfg: config of the training; changed.
        list_file: file whose list must be the same; None without one.

    Returns:
        The list of images; None if the recipe states no fraction.

    Raises:
        UserError: the training has several data sets, the fraction is less than one image, or the file
            lists images of other data.
    """
    recipe = cfg.get('recipe') or {}
    fraction, seed = recipe.get('fraction'), recipe.get('fraction_seed')
    if fraction is None:
        return None
    parts = list(plain_datasets(cfg[LOADER].dataset))
    if len(parts) != 1:
        raise UserError(
            f'--fraction needs a single data set, but {LOADER}.dataset joins {len(parts)}; omit '
            '--fraction, or train on one of them'
        )
    dataset = parts[0]
    kind = dataset.get('dataset_type', dataset.type)
    whole = ConfigDict({k: v for k, v in dataset.items() if k not in OWN} | {'type': kind})
    built = build_dataset(whole, cfg.default_scope)
    ids = image_ids(built)
    chosen = chosen_images(ids, fraction, seed)
    if not chosen:
        raise UserError(
            f'--fraction {fraction:g} of {len(ids)} training images is less than one; give at least '
            f'{1 / len(ids):.2g}'
        )
    images = tuple(ids[index] for index in chosen)
    found = ImageList(fraction, seed, data_sha256(whole), len(ids), images)
    if list_file:
        _check_list(read_list(list_file), found, list_file)
    if skipped := {*dataset.get('left_out', [])}:
        # Skipped images outside of the list were never part of this training.
        names = (relative_name(built, built.get_data_info(index)['img_path']) for index in chosen)
        dataset.left_out = sorted(skipped.intersection(names))
    dataset.update(
        type=dataset_of_fraction.__name__,
        dataset_type=kind,
        fraction=fraction,
        fraction_seed=seed,
        images_sha256=found.sha256,
    )
    return found


def _check_list(stated: ImageList, found: ImageList, file: Path) -> None:
    if stated != found:
        raise UserError(
            f'--fraction {file} lists {len(stated.images)} of {stated.available} images of other data '
            f'(list {stated.sha256[:8]}, {found.sha256[:8]} for the data here); give a list of these '
            'data, or a number between 0 and 1'
        )


@DATASETS.register_module()
def dataset_of_fraction(
    dataset_type: str,
    fraction: float,
    fraction_seed: int,
    images_sha256: str,
    left_out: Sequence[str] = (),
    **settings: Any,
) -> BaseDataset:
    """Build a data set with a share of its images, repeated to its whole length.

    Args:
        dataset_type: registered name of the data set's class.
        fraction: share of the images.
        fraction_seed: seed of the list of images.
        images_sha256: digest of this list.
        left_out: names of images of the share to skip, relative to the data root.
        **settings: settings of the data set, checked by its class.

    Raises:
        UserError: the data have changed since the run was started, or all images are skipped.
    """
    dataset = DATASETS.build({'type': dataset_type, **settings})
    ids = image_ids(dataset)
    chosen = chosen_images(ids, fraction, fraction_seed)
    found = ImageList(fraction, fraction_seed, None, len(ids), tuple(ids[i] for i in chosen))
    if found.sha256 != images_sha256:
        raise UserError(f'{dataset.data_root}: the training images changed since the run was started')
    skipped = set(left_out)
    names = {index: relative_name(dataset, dataset.get_data_info(index)['img_path']) for index in chosen}
    used = [index for index in chosen if names[index] not in skipped]
    if not used:
        raise UserError(f'{dataset.data_root}: all {len(chosen)} images of the fraction are skipped')
    # Other libraries split data sets by index, too; an index may occur several times.
    dataset.get_subset_([used[index % len(used)] for index in range(len(ids))])
    print_log(
        f'{dataset.data_root}: {len(used)} of {len(ids)} images ({100 * fraction:g} %, seed '
        f'{fraction_seed}), repeated to {len(dataset)}',
        logger='current',
    )
    return dataset


def fraction_digest(dataset: Mapping) -> str | None:
    """Return the digest of the list of images that a config trains on; None if it trains on all."""
    return next((part.get('images_sha256') for part in plain_datasets(dataset)), None)
