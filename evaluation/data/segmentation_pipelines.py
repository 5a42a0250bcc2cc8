"""Checks of the transforms that images and segmentation maps pass."""

import inspect
import re
from collections.abc import Iterator, Sequence

from mmengine import fileio
from mmengine.config import Config, ConfigDict
from PIL import Image

from evaluation.data.class_counts import dataset_class
from evaluation.data.image_files import BadFileError
from evaluation.utils.errors import UserError

TRAINING = 'train_dataloader'
# By the names of mmcv's and mmseg's transforms.
MAP_LOADER = re.compile(r'Load\w*(Annotations?|SegmentationMap)')
GEOMETRIC = re.compile(r'Resize|Rescale|Flip|Crop|Rotat|Pad|Affine')
# These take away or add pixels, which a prediction at the original size does not make up for.
CHANGES_FIELD_OF_VIEW = re.compile(r'Crop|Rotat|Pad|Affine')


def steps_of(pipeline: Sequence[dict]) -> Iterator[tuple[str, dict]]:
    """Name and settings of every transform, in order; of test-time augmentation all alternatives."""
    for step in pipeline:
        kind = step['type']
        name = kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
        if name == 'TestTimeAug':
            yield from steps_of([each for transforms in step['transforms'] for each in transforms])
        else:
            yield name, step


def check_transforms(cfg: Config, places: Sequence[tuple[str, ConfigDict]]) -> None:
    """Check the transforms of all data sets of a segmentor.

    Args:
        cfg: the config.
        places: names of loaders, and the config of each of their data sets.

    Raises:
        UserError: the order or the settings of some would make figures wrong.
    """
    for place, dataset in places:
        if place != TRAINING:
            check_pipeline(f'{place}.dataset.pipeline', dataset.get('pipeline', []))
    check_pipeline('tta_pipeline', cfg.get('tta_pipeline') or [])
    check_zero_labels(places, cfg.default_scope)


def check_pipeline(place: str, pipeline: Sequence[dict]) -> None:
    """Check the transforms of a test or validation: a prediction has the size of the file.

    Raises:
        UserError: a transform changes what of the image is seen, or changes the loaded map.
    """
    loader = None
    for name, _ in steps_of(pipeline):
        if CHANGES_FIELD_OF_VIEW.search(name):
            raise UserError(
                f'{place} has {name}, but predictions are compared with maps of the whole image; leave '
                f'{name} out, or pad by model.data_preprocessor.test_cfg'
            )
        if loader and GEOMETRIC.search(name):
            raise UserError(
                f'{place} loads the map ({loader}) before {name}, which would change it, but '
                f'predictions have the size of the file; put {loader} after {name}'
            )
        loader = name if MAP_LOADER.fullmatch(name) else loader


def check_zero_labels(places: Sequence[tuple[str, ConfigDict]], scope: str) -> None:
    """Check that all data sets, and what loads their maps, count classes from the same label.

    Args:
        places: names of loaders, and the config of each of their data sets.
        scope: of the data sets.

    Raises:
        UserError: two differ, so that labels would be off by one.
    """
    first = None
    for place, dataset in places:
        reduced = reduces_zero_label(dataset, scope)
        for name, step in steps_of(dataset.get('pipeline', [])):
            stated = step.get('reduce_zero_label')
            if MAP_LOADER.fullmatch(name) and stated is not None and stated != reduced:
                raise UserError(
                    f'reduce_zero_label is {reduced} in the data set of {place} and {stated} in its '
                    f'{name}; make them equal'
                )
        first = first or (place, reduced)
        if reduced != first[1]:
            raise UserError(
                f'reduce_zero_label is {first[1]} in the data set of {first[0]} and {reduced} in that '
                f'of {place}, so that their classes are off by one; make them equal'
            )


def reduces_zero_label(dataset: ConfigDict, scope: str) -> bool:
    """Whether a data set ignores label 0 and counts classes from 1: its own setting, or its class's."""
    if 'reduce_zero_label' in dataset:
        return dataset.reduce_zero_label
    for kind in dataset_class(dataset, scope).__mro__:
        parameters = inspect.signature(kind.__init__).parameters if '__init__' in vars(kind) else {}
        if 'reduce_zero_label' in parameters:
            return parameters['reduce_zero_label'].default
    return False


def check_stackable(cfg: Config, loader: str, datasets: Sequence, may_lack_images: bool) -> None:
    """Check that the images of a test or validation have one shape where a batch has several.

    mmseg stacks them without padding. One image of each size of a file passes the pipeline, until two
    shapes differ.

    Args:
        cfg: the config.
        loader: name of the data loader.
        datasets: built, of the loader.
        may_lack_images: whether bad images are left out later.

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
                # Loading names such a file in one line.
                continue
            except BadFileError:
                if may_lack_images:
                    continue
                raise
            first = first or (path, shape)
            if shape != first[1]:
                raise UserError(
                    f'{loader}.batch_size={batch}, but images have several shapes when they are tested, '
                    f'such as {_text(first[1])} of {first[0]} and {_text(shape)} of {path}; give '
                    f'{loader}.batch_size=1'
                )


def size_of_file(path: str) -> tuple[int, int]:
    """Width and height that the head of an image file states."""
    with fileio.get_local_path(path) as local, Image.open(local) as header:
        return header.size


def _text(shape: tuple[int, ...]) -> str:
    return 'x'.join(map(str, shape[::-1]))
