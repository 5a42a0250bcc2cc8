"""Check the data sets of a run before anything is built, so that errors show within seconds.

Images are not decoded here, which would take minutes; they are checked when they are loaded.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine import fileio
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from PIL import Image

from evaluation.config.masks import check_masks, needs_masks
from evaluation.config.segmentor_checks import check_all_class_weights
from evaluation.data.coco_file import FORMAT_ONLY, check_coco
from evaluation.data.config_checks import (
    TRAINING,
    check_class_counts,
    check_classifier,
    check_evaluated,
    check_evaluators,
    check_transforms,
)
from evaluation.data.dataset_config import class_names, data_sha256, lister_of, path_of, plain_datasets
from evaluation.data.image_files import ADVICE, BadFileError, files_below, leads_out, visible_files_below
from evaluation.data.image_loading import build_dataset
from evaluation.data.imagenet import class_folders, labeled_images
from evaluation.utils.errors import UserError
from evaluation.utils.files import file_sha256
from evaluation.utils.process_groups import note

TESTED = 'test_dataloader'
LABELED_IMAGES = 'ImageNetDataset.load_data_list'


def check_data(
    cfg: Config, loaders: Sequence[str], skip_bad_images: bool = False, needs_truth: bool = True
) -> None:
    """Check the files of the data sets of the given loaders, and that the model fits them.

    Args:
        cfg: the config.
        loaders: names of the data loaders that will be used.
        skip_bad_images: whether images may be missing.
        needs_truth: whether images must have annotations.

    Raises:
        UserError: a file or folder is missing or wrong, or a setting does not fit; the message names it.
    """
    scope = cfg.default_scope
    datasets = [(name, dataset) for name in loaders for dataset in plain_datasets(cfg[name].dataset)]
    if needs_truth:
        check_masks(cfg, loaders)
    for loader in loaders:
        check_evaluated(cfg, loader)
    for loader, dataset in datasets:
        check_layout(dataset, is_test=loader == TESTED)
    if scope == 'mmseg':
        check_transforms(cfg, datasets)
    for loader, dataset in datasets:
        # For images with labels, the classes are in the files; see `check_labeled_images`.
        if lister_of(dataset, scope) != LABELED_IMAGES:
            check_class_counts(cfg, loader, class_names(dataset, scope))
    if scope == 'mmseg':
        check_all_class_weights(cfg)
    for loader in loaders:
        check_evaluators(cfg, loader)
    for loader, dataset in datasets:
        may_lack_images = skip_bad_images or 'left_out' in dataset
        lister = lister_of(dataset, scope)
        if lister == 'CocoDataset.load_data_list':
            with_masks = needs_truth and needs_masks(cfg, loader, [dataset])
            is_test = loader == TESTED
            check_instances(dataset, scope, may_lack_images, with_masks, needs_truth, is_test)
        elif lister == 'BaseSegDataset.load_data_list':
            check_pairs(dataset, scope, may_lack_images, is_test=loader == TESTED)
        elif lister == LABELED_IMAGES:
            check_labeled_images(cfg, loader, dataset, may_lack_images)
    for loader in loaders:
        if scope == 'mmseg' and loader != TRAINING and cfg[loader].batch_size > 1:
            parts = [
                build_dataset(each, scope, each.pipeline) for name, each in datasets if name == loader
            ]
            check_stackable(cfg, loader, parts, skip_bad_images)


def check_layout(dataset: ConfigDict, is_test: bool = False) -> None:
    """Check the folders and the file that a data set's config names.

    Args:
        dataset: config of the data set.
        is_test: whether it is a test set, which can be without annotations on purpose.

    Raises:
        UserError: a path is missing, empty or of the wrong type; the message gives the expected layout.
    """
    folders = [path_of(dataset, name) for name in dataset.get('data_prefix', {}).values()]
    files = [path_of(dataset, name) for name in (dataset.get('ann_file'),) if name]
    layout = ', '.join(map(str, folders + files))
    root = path_of(dataset, '')
    if not root.is_dir():
        raise UserError(f'data root {root} is not a folder; give a --data-root with {layout}')
    if not os.listdir(root):
        raise UserError(f'data root {root} is empty; the data root must have {layout}')
    for path in folders + files:
        if not path.exists():
            maps = dataset.get('data_prefix', {}).get('seg_map_path')
            is_of_maps = is_test and maps is not None and path == path_of(dataset, maps)
            advice = f', or {FORMAT_ONLY}' if is_of_maps else ''
            raise UserError(f'{path} is missing; the data root must have {layout}{advice}')
        if path in files and not path.is_file():
            raise UserError(f'{path} is not a file; the data root must have {layout}')
        if path in folders and not path.is_dir():
            raise UserError(f'{path} is not a folder; the data root must have {layout}')
        if path in folders and not os.listdir(path):
            raise UserError(f'{path} is empty; the data root must have {layout}')


def check_instances(
    dataset: ConfigDict,
    scope: str,
    may_lack_images: bool,
    with_masks: bool,
    needs_truth: bool,
    is_test: bool,
) -> None:
    """Check an annotation file, and that its images exist.

    Raises:
        UserError: the file is malformed, or an image is missing.
    """
    file = path_of(dataset, dataset.ann_file)
    note(f'checking {file}')
    evaluated = dataset.get('test_mode', False)
    classes = class_names(dataset, scope)
    names = check_coco(file, classes, evaluated, with_masks, needs_truth, is_test)
    folder = path_of(dataset, dataset.data_prefix.img)
    there = files_below(folder)
    missing = [name for name in names if os.path.normpath(name) not in there]
    if missing and not may_lack_images:
        raise UserError(
            f'{len(missing)} of the {len(names)} images of {file} are missing, such as '
            f'{folder / missing[0]}; {ADVICE}'
        )


def check_pairs(dataset: ConfigDict, scope: str, may_lack_images: bool, is_test: bool = False) -> None:
    """Check that every image has a segmentation map and every map has an image.

    Raises:
        UserError: an image or a map has no counterpart, or there are no images.
    """
    # List all images even if only a subset is used; otherwise maps of the rest would have no image.
    built = build_listed({**dataset, 'indices': None}, scope)
    folders = built.data_prefix
    if not len(built):
        raise UserError(
            f'{folders["img_path"]} has no image whose name ends in {built.img_suffix}; '
            'convert the images, or set img_suffix of the data set'
        )
    outside = [name for name in names_listed(built) if leads_out(name)]
    if outside:
        raise UserError(
            f'{built.ann_file} lists {outside[0]!r}, which points outside the image folder; '
            'correct or remove it'
        )
    has_maps = 'seg_map_path' in folders
    unmapped, unpictured = unpaired(built) if has_maps and not may_lack_images else ([], [])
    if unmapped:
        advice = f', or {FORMAT_ONLY}' if is_test else ''
        raise UserError(
            f'{len(unmapped)} of the {len(built)} images in {folders["img_path"]} have no segmentation '
            f'map, such as {unmapped[0]}; {ADVICE}{advice}'
        )
    if unpictured:
        raise UserError(
            f'{len(unpictured)} images with segmentation maps in {folders["seg_map_path"]} are missing, '
            f'such as {unpictured[0]}; {ADVICE}'
        )


def build_listed(dataset: ConfigDict, scope: str) -> BaseDataset:
    """Build a data set that lists the files in its folders.

    Raises:
        UserError: a path cannot be read, such as a link to itself.
    """
    try:
        return build_dataset(dataset, scope)
    except OSError as error:
        raise UserError(
            f'{error.filename} cannot be read ({error.strerror}); restore or remove it'
        ) from error


def names_listed(dataset: BaseDataset) -> list[str]:
    """Return the lines of the file that lists the images of an mmseg data set, if there is one."""
    if not dataset.ann_file:
        return []
    return [line.strip() for line in Path(dataset.ann_file).read_text(encoding='utf-8').splitlines()]


def check_labeled_images(cfg: Config, loader: str, dataset: ConfigDict, may_lack_images: bool) -> None:
    """Check labels against the network's classes, and that the images exist.

    Raises:
        UserError: the layout is unknown, the number of classes does not fit the network, or an image is
            missing.
    """
    root, split = path_of(dataset, ''), dataset.split
    images = labeled_images(root, split)
    check_classifier(cfg, loader, max(label for _, label in images) + 1, class_folders(root / split))
    there = files_below(root / split)
    missing = [name for name, _ in images if os.path.normpath(name) not in there]
    if missing and not may_lack_images:
        raise UserError(
            f'{len(missing)} of the {len(images)} images of {root} in {split}/ are missing, such as '
            f'{root / split / missing[0]}; {ADVICE}'
        )


def unpaired(dataset: BaseDataset) -> tuple[list[str], list[str]]:
    """Return the paths of missing maps and of missing images in an mmseg data set."""
    images, maps = dataset.data_prefix['img_path'], dataset.data_prefix['seg_map_path']
    wanted = [dataset.get_data_info(i)['seg_map_path'] for i in range(len(dataset))]
    wanted = [os.path.relpath(path, maps) for path in wanted]
    there = visible_files_below(Path(maps))
    unmapped = [os.path.join(maps, name) for name in wanted if name not in there]
    if dataset.ann_file:
        # The file can list a subset of the images; maps of the rest are harmless.
        return unmapped, []
    ending = dataset.seg_map_suffix
    left = sorted(name for name in there.difference(wanted) if name.endswith(ending))
    names = [name.removesuffix(ending) + dataset.img_suffix for name in left]
    return unmapped, [os.path.join(images, name) for name in names]


def check_stackable(cfg: Config, loader: str, datasets: Sequence, may_lack_images: bool) -> None:
    """Check that the images of a test or validation have the same shape if they are batched.

    mmseg stacks them without padding. For each file size in pixels, one image is passed through the
    pipeline, until two shapes differ.

    Args:
        cfg: the config.
        loader: name of the data loader.
        datasets: data sets of the loader, already built.
        may_lack_images: whether bad images are skipped later.

    Raises:
        UserError: two shapes differ.
    """
    batch = cfg[loader].batch_size
    sizes: set[tuple[int, int]] = set()
    first = None
    for dataset in datasets:
        for index in range(len(dataset)):
            path = dataset.get_data_info(index)['img_path']
            try:
                size = size_of_file(path)
                if size in sizes:
                    continue
                sizes.add(size)
                shape = tuple(dataset[index]['inputs'].shape[1:])
            except OSError:
                # Loading raises a one-line error for such a file later.
                continue
            except BadFileError:
                if may_lack_images:
                    continue
                raise
            first = first or (path, shape)
            if shape != first[1]:
                raise UserError(
                    f'{loader}.batch_size={batch}, but images have different shapes after the pipeline, '
                    f'such as {_text(first[1])} of {first[0]} and {_text(shape)} of {path}; set '
                    f'{loader}.batch_size=1'
                )


def size_of_file(path: str) -> tuple[int, int]:
    """Return width and height from the header of an image file."""
    with fileio.get_local_path(path) as local, Image.open(local) as header:
        return header.size


def _text(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape[::-1]))


class Digests:
    """Cache of digests of data and files."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def of_data(self, dataset: ConfigDict) -> str:
        """Return the SHA-256 of a data set.

        Raises:
            UserError: the data set is missing or unreadable.
        """
        key = json.dumps(dataset.to_dict(), sort_keys=True, default=repr)
        if key not in self._known:
            for part in plain_datasets(dataset):
                check_layout(part)
            try:
                self._known[key] = data_sha256(dataset)
            except OSError as error:
                raise UserError(f'{error.filename} cannot be read ({error.strerror})') from error
        return self._known[key]

    def of_file(self, file: str) -> str:
        """Return the SHA-256 of a file.

        Raises:
            UserError: the file cannot be read.
        """
        if file not in self._known:
            try:
                self._known[file] = file_sha256(Path(file))
            except OSError as error:
                raise UserError(f'{file} cannot be read ({error.strerror})') from error
        return self._known[file]
