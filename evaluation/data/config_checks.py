"""Check the settings of data sets, transforms and heads against each other, without reading images."""

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from evaluation.config.schedule import INFINITE_SAMPLERS, name_of, sampler_of
from evaluation.config.settings import setting
from evaluation.data.coco_file import listed
from evaluation.data.dataset_config import dataset_class, lister_of, path_of, plain_datasets, step_name
from evaluation.utils.errors import UserError

IMAGENET_CLASSES = 1000
EVALUATED = ('val_dataloader', 'test_dataloader')
REMEDY = 'evaluate each data set separately, or give one annotation file for all images'
TRAINING = 'train_dataloader'
# Patterns for the names of mmcv's and mmseg's transforms.
MAP_LOADER = re.compile(r'Load\w*(Annotations?|SegmentationMap)')
GEOMETRIC = re.compile(r'Resize|Rescale|Flip|Crop|Rotat|Pad|Affine')
# These remove or add pixels, which resizing a prediction to the original size does not undo.
CHANGES_FIELD_OF_VIEW = re.compile(r'Crop|Rotat|Pad|Affine')


def check_evaluated(cfg: Config, loader: str) -> None:
    """Check the wrappers around the data sets of a loader.

    Args:
        cfg: the config.
        loader: name of a data loader; a training loader is not checked.

    Raises:
        UserError: the sampler never ends, or a wrapper repeats or mixes images, or joins data sets that
            cannot be evaluated together.
    """
    if loader not in EVALUATED:
        return
    sampler = sampler_of(cfg, loader)
    if sampler.is_a(*INFINITE_SAMPLERS):
        raise UserError(
            f'{sampler.place}.type={name_of(sampler)!r} never ends, so the evaluation would not either; '
            f"set {sampler.place}.type='DefaultSampler' and {sampler.place}.shuffle=False"
        )
    dataset = cfg[loader].dataset
    for place, wrapper in wrappers_of(dataset, f'{loader}.dataset'):
        if 'dataset' in wrapper:
            raise UserError(
                f'{place}.type={step_name(wrapper)!r} repeats or mixes images, but an evaluation must '
                f'use each image once; replace {place} with the settings of {place}.dataset'
            )
    parts = list(plain_datasets(dataset))
    files = [part.get('ann_file') for part in parts]
    listers = [lister_of(part, cfg.default_scope) for part in parts]
    if len(parts) > 1 and 'CocoDataset.load_data_list' in listers:
        # Image ids of two files can collide, and the metric reads the ground truth of one file only.
        raise UserError(
            f'{loader}.dataset joins {len(parts)} data sets ({", ".join(map(str, files))}), but AP is '
            f'computed from one annotation file; {REMEDY}'
        )
    for index, part in enumerate(parts):
        if any(_images(part) == _images(other) for other in parts[:index]):
            raise UserError(
                f'{loader}.dataset joins {part.get("data_root") or part.get("type")} twice, so its '
                'images would count twice; remove one'
            )


def wrappers_of(dataset: ConfigDict, place: str) -> Iterator[tuple[str, ConfigDict]]:
    """Yield data sets that wrap others, with their config keys, outermost first."""
    if 'dataset' in dataset:
        yield place, dataset
        yield from wrappers_of(dataset.dataset, f'{place}.dataset')
    elif 'datasets' in dataset:
        yield place, dataset
        for index, part in enumerate(dataset.datasets):
            yield from wrappers_of(part, f'{place}.datasets.{index}')


def _images(part: ConfigDict) -> tuple:
    """Return the settings that determine which images a data set has."""
    names = ('data_root', 'data_prefix', 'ann_file', 'split', 'indices')
    return tuple(str(part.get(name)) for name in names)


def steps_of(pipeline: Sequence[dict]) -> Iterator[tuple[str, dict]]:
    """Yield the name and settings of every transform in order, including test-time augmentation."""
    for step in pipeline:
        if step_name(step) == 'TestTimeAug':
            yield from steps_of([each for transforms in step['transforms'] for each in transforms])
        else:
            yield step_name(step), step


def check_transforms(cfg: Config, places: Sequence[tuple[str, ConfigDict]]) -> None:
    """Check the transforms of all data sets of a segmentor.

    Args:
        cfg: the config.
        places: pairs of a loader's name and the config of one of its data sets.

    Raises:
        UserError: the order or the settings of transforms would make results wrong.
    """
    for place, dataset in places:
        if place != TRAINING:
            check_pipeline(f'{place}.dataset.pipeline', dataset.get('pipeline', []))
    check_pipeline('tta_pipeline', cfg.get('tta_pipeline') or [])
    check_zero_labels(places, cfg.default_scope)


def check_pipeline(place: str, pipeline: Sequence[dict]) -> None:
    """Check the transforms of a test or validation, where a prediction has the size of the image file.

    Raises:
        UserError: a transform changes the visible part of the image, or the loaded map.
    """
    loader = None
    for name, _ in steps_of(pipeline):
        if CHANGES_FIELD_OF_VIEW.search(name):
            raise UserError(
                f'{place} has {name}, but predictions are compared with maps of the whole image; remove '
                f'{name}, or pad with model.data_preprocessor.test_cfg'
            )
        if loader and GEOMETRIC.search(name):
            raise UserError(
                f'{place} loads the map ({loader}) before {name}, which would change it, but '
                f'predictions have the size of the image file; move {loader} after {name}'
            )
        loader = name if MAP_LOADER.fullmatch(name) else loader


def check_zero_labels(places: Sequence[tuple[str, ConfigDict]], scope: str) -> None:
    """Check that all data sets and map loaders have the same `reduce_zero_label`.

    Args:
        places: pairs of a loader's name and the config of one of its data sets.
        scope: library of the data sets.

    Raises:
        UserError: two differ, so labels would be off by one.
    """
    first = None
    for place, dataset in places:
        reduced = reduces_zero_label(dataset, scope)
        for name, step in steps_of(dataset.get('pipeline', [])):
            stated = step.get('reduce_zero_label')
            if MAP_LOADER.fullmatch(name) and stated is not None and stated != reduced:
                raise UserError(
                    f'reduce_zero_label is {reduced} in the data set of {place} but {stated} in its '
                    f'{name}; make them equal'
                )
        first = first or (place, reduced)
        if reduced != first[1]:
            raise UserError(
                f'reduce_zero_label is {first[1]} in the data set of {first[0]} but {reduced} in that '
                f'of {place}, so their classes are off by one; make them equal'
            )


def reduces_zero_label(dataset: ConfigDict, scope: str) -> bool:
    """Return whether a data set ignores label 0: its setting, or the default of its class."""
    if 'reduce_zero_label' in dataset:
        return dataset.reduce_zero_label
    for kind in dataset_class(dataset, scope).__mro__:
        parameters = inspect.signature(kind.__init__).parameters if '__init__' in vars(kind) else {}
        if 'reduce_zero_label' in parameters:
            return parameters['reduce_zero_label'].default
    return False


def check_evaluators(cfg: Config, loader: str) -> None:
    """Check that evaluators read the annotation file of the loader's data set.

    Raises:
        UserError: an evaluator has a different file.
    """
    # Only training loaders have several data sets, and they have no evaluator.
    dataset = next(plain_datasets(cfg[loader].dataset))
    name = loader.replace('_dataloader', '_evaluator')
    evaluators = cfg.get(name, [])
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        if 'ann_file' not in evaluator or 'ann_file' not in dataset:
            continue
        own = path_of(dataset, dataset.ann_file)
        if Path(evaluator.ann_file).resolve() != own.resolve():
            raise UserError(
                f'{name}.ann_file is {evaluator.ann_file}, but {loader} has {own}; make them equal'
            )


def check_class_counts(cfg: Config, loader: str, classes: Sequence[str]) -> None:
    """Compare every `num_classes` of model and transforms with the classes of a loader's data set.

    Raises:
        UserError: a value differs; the message names it.
    """
    places = {
        # The RPN only separates objects from background.
        'model': {key: part for key, part in cfg.model.items() if key != 'rpn_head'},
        loader: cfg[loader],
        'tta_pipeline': cfg.get('tta_pipeline', []),
    }
    for place, count in class_counts(places):
        if count != len(classes):
            raise UserError(
                f'{place} is {count}, but the data set of {loader} has {len(classes)} classes '
                f'({listed(classes)}); make them equal'
            )


def class_counts(value: Any, place: str = '') -> Iterator[tuple[str, int]]:
    """Yield every `num_classes` at any depth of a config, with its dotted name."""
    if isinstance(value, dict):
        entries = value.items()
    else:
        entries = enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, part in entries:
        name = f'{place}.{key}' if place else str(key)
        if key == 'num_classes':
            yield name, part
        else:
            yield from class_counts(part, name)


def check_classifier(cfg: Config, loader: str, labels: int, folders: Sequence[str]) -> None:
    """Compare the number of logits with the labels and the class folders.

    Raises:
        UserError: there are more classes than logits, or fewer classes than logits in training.
    """
    known = setting(cfg, 'model.backbone.num_classes', default=IMAGENET_CLASSES)
    found = max(labels, len(folders))
    if found > known or (loader == TRAINING and found < known):
        raise UserError(
            f'model.backbone.num_classes is {known}, but the data set of {loader} has {found} classes; '
            f'add --cfg-options model.backbone.num_classes={found}'
        )
