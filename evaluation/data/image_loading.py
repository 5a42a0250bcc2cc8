"""Checked image loading and reproducible augmentation.

Test pipelines use the loader names of OpenMMLab, because the inferencers of mmdet and mmseg look for
these names. When the suite builds a data set, `with_checked_loading` replaces them with the loaders
defined here. Without them, a truncated JPEG would be half gray, without an error.

Augmentation depends only on the seed and the sample. By default, transforms draw from the global
generators of their worker process, so the augmentation of an image depends on the number of workers and
on earlier samples: it changes with `num_workers`, and a resumed training sees different crops than an
uninterrupted one. Here every sample has its own generator.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, Compose, DefaultSampler, InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS, DefaultScope
from torch.utils.data import DataLoader, Dataset

from evaluation.data.dataset_config import class_names, step_name
from evaluation.data.image_files import ADVICE, BadFileError, check_not_turned, read_whole, turn_hint
from evaluation.utils.errors import UserError
from evaluation.utils.random_state import seeded

IMAGE_LOADER = 'LoadImageFromFile'
TRUTH_LOADERS = ('LoadAnnotations', 'LoadCheckedSegmentationMap', 'LoadPanopticAnnotations')


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """`LoadImageFromFile` with one-line errors that name the file.

    Some versions of OpenCV fill the missing part of a truncated JPEG with gray, without an error. If an
    image has a different size than its annotations, masks would be in the wrong place.

    By default the EXIF orientation is ignored, because maps and annotations are for the stored pixels.
    OpenMMLab's loader applies it, but only to the image.

    Args:
        to_float32: convert the pixels to float32.
        color_type: flag of mmcv's `imfrombytes`. `color` applies the EXIF orientation, for data
            annotated on rotated images; `color_ignore_orientation` does not.
        imdecode_backend: name of the decoder.
        backend_args: arguments of the file backend.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = 'color_ignore_orientation',
        imdecode_backend: str = 'cv2',
        backend_args: dict | None = None,
    ) -> None:
        super().__init__(to_float32, color_type, imdecode_backend, backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        """Add `img` (H, W, 3), `img_shape` and `ori_shape` from `img_path`.

        If `height` and `width` are given, as in COCO, they must match the image.

        Raises:
            BadFileError: the file is missing, truncated, not an image, of a different size than stated,
                or a TIFF with an orientation that `color_type` ignores.
        """
        path = results['img_path']
        content = read_whole(path, self.backend_args)
        image = self._decode(content, path)
        height, width = image.shape[:2]
        stated = results.get('height', height), results.get('width', width)
        if stated != (height, width):
            message = _size_message(content, path, (height, width), stated)
            raise BadFileError(message, 'images with a different size than their annotations')
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = (height, width)
        return results

    def _decode(self, content: bytes, path: str) -> np.ndarray:
        if self.color_type.endswith('_ignore_orientation'):
            check_not_turned(content, path)
        return decoded(content, path, self.color_type, self.imdecode_backend)


def image_of(dataset: BaseDataset, path: str) -> np.ndarray:
    """Load an image as in the pipeline of a data set.

    Args:
        dataset: OpenMMLab data set, or a wrapper of one.
        path: path of the image.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        BadFileError: the image cannot be used.
    """
    while not hasattr(dataset, 'pipeline'):
        dataset = dataset.datasets[0] if hasattr(dataset, 'datasets') else dataset.dataset
    return loaded_by(dataset.pipeline, path)


def loaded_by(pipeline: Compose, path: str) -> np.ndarray:
    """Load an image as in a pipeline; see `image_of`."""
    steps = pipeline.transforms
    load = next((step for step in steps if isinstance(step, LoadImageFromFile)), LoadImageFromFile())
    image = load.transform({'img_path': path})['img']
    return np.ascontiguousarray(image[..., ::-1].astype(np.uint8))


def decoded(
    content: bytes,
    path: str,
    color_type: str = 'color_ignore_orientation',
    imdecode_backend: str | None = None,
    advice: str = ADVICE,
) -> np.ndarray:
    """Decode an image, by default to (H, W, 3), uint8, in BGR order; see mmcv's `imfrombytes`.

    Raises:
        BadFileError: the image cannot be decoded.
    """
    try:
        image = mmcv.imfrombytes(content, flag=color_type, backend=imdecode_backend)
    # Decoders can raise any exception on corrupt data, or return None.
    except Exception:
        image = None
    if image is None:
        message = f'{path} cannot be decoded as an image; {advice}'
        raise BadFileError(message, 'undecodable images')
    return image


def _size_message(content: bytes, path: str, size: tuple[int, int], stated: tuple[int, int]) -> str:
    (height, width), (stated_height, stated_width) = size, stated
    hint = turn_hint(content) if size == stated[::-1] else None
    return (
        f'{path} is {width}x{height} pixels, but its annotations are for '
        f'{stated_width}x{stated_height}; {hint or ADVICE}'
    )


def with_checked_loading(dataset: Any, scope: str | None = None) -> Any:
    """Return the config of a data set with checked loaders, also in the data sets that it wraps.

    Args:
        dataset: config of a data set, not changed; any other value is returned unchanged.
        scope: library of its transforms; default: the current scope.
    """
    if not isinstance(dataset, dict):
        return dataset
    if scope is None:
        current = DefaultScope.get_current_instance()
        scope = current.scope_name if current else 'mmengine'
    changed = type(dataset)(**dataset)
    if 'dataset' in changed:
        changed['dataset'] = with_checked_loading(changed['dataset'], scope)
    if 'datasets' in changed:
        changed['datasets'] = [with_checked_loading(part, scope) for part in changed['datasets']]
    if 'pipeline' in changed:
        changed['pipeline'] = checked_pipeline(changed, scope)
    return changed


def checked_pipeline(dataset: dict, scope: str) -> list:
    """Return the pipeline of a data set with checked loaders."""

    def checked(step: Any) -> Any:
        if isinstance(step, (list, tuple)):
            return [checked(part) for part in step]
        if not isinstance(step, dict) or 'type' not in step:
            return step
        # Test-time augmentation has lists of lists of transforms.
        if isinstance(step.get('transforms'), (list, tuple)):
            return type(step)(**{**step, 'transforms': checked(step['transforms'])})
        if step_name(step) == IMAGE_LOADER:
            # Keep the default of OpenMMLab's loader, which differs from the one here.
            step = {'color_type': 'color', **step}
            return ConfigDict(**{**step, 'type': LoadCheckedImage.__name__})
        # mmdet's transform with this name does not read files.
        if step_name(step) == 'LoadAnnotations' and scope == 'mmseg':
            return _checked_map(step, len(class_names(ConfigDict(dataset), scope)))
        return step

    return checked(dataset['pipeline'])


def _checked_map(step: dict, num_classes: int) -> dict:
    # Import mmseg only when its loader is needed.
    from evaluation.data.segmentation_map import LoadCheckedSegmentationMap

    return type(step)(
        **{**step, 'type': LoadCheckedSegmentationMap.__name__, 'num_classes': num_classes}
    )


def build_dataset(dataset: ConfigDict, scope: str, pipeline: Sequence[dict] = ()) -> BaseDataset:
    """Build a data set with a different pipeline, without serialization, which fails if it is empty."""
    settings = with_checked_loading({**dataset, 'pipeline': list(pipeline)}, scope)
    settings['serialize_data'] = False
    with DefaultScope.overwrite_default_scope(scope):
        return DATASETS.build(settings)


def without_truth(pipeline: Sequence) -> list:
    """Return a pipeline without the transforms that load annotations, for images that have none."""
    kept = []
    for step in pipeline:
        if isinstance(step, (list, tuple)):
            inner = without_truth(step)
            # An empty list would leave test-time augmentation without views.
            if inner:
                kept.append(inner)
        elif isinstance(step.get('transforms'), (list, tuple)):
            kept.append(type(step)(**{**step, 'transforms': without_truth(step['transforms'])}))
        elif step_name(step) not in TRUTH_LOADERS:
            kept.append(step)
    return kept


def yield_errors(loader: DataLoader) -> None:
    """Make a data loader yield the `UserError` of a sample in place of its batch.

    torch re-raises a worker's exception in the main process as a new object of the same class, built
    from the text of the traceback. An error that is yielded keeps its message and attributes.

    Args:
        loader: data loader with batches, changed in place.
    """
    dataset = loader.dataset
    dataset.__getitems__ = functools.partial(_samples, dataset)
    loader.collate_fn = functools.partial(_batch, loader.collate_fn)


def _samples(dataset: Dataset, indices: Sequence[int]) -> list | UserError:
    try:
        return [dataset[index] for index in indices]
    except UserError as error:
        return error


def _batch(collate: Callable[[list], Any], samples: list | UserError) -> Any:
    return samples if isinstance(samples, UserError) else collate(samples)


class DrawnIndex(int):
    """Index of a sample with a draw number, so that each draw of an image is augmented differently."""

    draw: int

    def __new__(cls, index: int, draw: int) -> 'DrawnIndex':
        self = super().__new__(cls, index)
        self.draw = draw
        return self

    def __reduce__(self) -> tuple:
        return DrawnIndex, (int(self), self.draw)


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's `DefaultSampler` whose indices carry the epoch."""

    def __iter__(self) -> Iterator[DrawnIndex]:
        return (DrawnIndex(index, self.epoch) for index in super().__iter__())


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """mmengine's `InfiniteSampler` whose indices carry their position in the process's sequence."""

    def _indices_of_rank(self) -> Iterator[DrawnIndex]:
        return (DrawnIndex(index, place) for place, index in enumerate(super()._indices_of_rank()))


SEEDED_SAMPLERS = (SeededSampler.__name__, SeededInfiniteSampler.__name__)


@DATASETS.register_module()
class SeededDataset(Dataset):
    """Data set whose random transforms draw from a separate generator for each sample.

    Args:
        dataset: mmengine data set, or its config.
        seed: random seed of the training.
    """

    def __init__(self, dataset: Dataset | dict, seed: int) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed

    def __getitem__(self, index: DrawnIndex) -> dict:
        with seeded(self.seed, index.draw, int(index)):
            return self.dataset[int(index)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # Delegate missing attributes. While a worker unpickles this, `dataset` itself is missing.
        if name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)
