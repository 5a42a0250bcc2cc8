"""Adapters that give analyses access to a task: images with ground truth, predictions and metrics."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Protocol

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from torch import Tensor, nn

from evaluation.data.dataset_config import plain_datasets
from evaluation.data.image_loading import build_dataset
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError


@dataclass(frozen=True)
class Sample:
    """An image and its ground truth.

    Attributes:
        name: path of the file.
        image: (H, W, 3), uint8, BGR, the input of the model's preprocessor.
        truth: ground truth in the frame of `image`; its type depends on the task.
        original: in classification, the image before resizing and cropping; None in other tasks.
    """

    name: str
    image: np.ndarray
    truth: Any
    original: np.ndarray | None = None


class Samples(Sequence[Sample]):
    """The first images of a data set.

    Args:
        dataset: data set of mmengine, whose pipeline ends before packing.
        limit: number of images to take; None for all.
        make: function from the pipeline's results to a sample.
    """

    def __init__(self, dataset: BaseDataset, limit: int | None, make: Callable[[dict], Sample]) -> None:
        self._dataset = dataset
        self._count = min(limit or len(dataset), len(dataset))
        self._make = make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._make(self._dataset.prepare_data(index))

    def changed(self, index: int, change: Callable[[np.ndarray], np.ndarray]) -> Sample:
        """Return a sample whose image is changed right after loading, before it is resized.

        Args:
            index: index of the image.
            change: function from an image (H, W, 3), uint8, BGR, to an image of the same size.
        """
        results, is_loaded = self._dataset.get_data_info(index), False
        for step in self._dataset.pipeline.transforms:
            results = step(results)
            if not is_loaded and 'img' in results:
                results['img'], is_loaded = change(results['img']), True
        return self._make(results)

    def digest(self) -> str:
        """Return the SHA-256 of the files' names, lengths and annotations, in order.

        The content of the images is not included: reading it would take as long as the analysis.
        """
        digest = hashlib.sha256()
        for index in range(self._count):
            facts = _with_lengths(self._dataset.get_data_info(index), self._dataset.data_root or '')
            digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        return digest.hexdigest()


def test_dataset(cfg: Config) -> ConfigDict:
    """Return the config of the test data set.

    Raises:
        UserError: the data set wraps or concatenates others.
    """
    dataset = cfg.test_dataloader.dataset
    if [*plain_datasets(dataset)] != [dataset]:
        raise UserError(
            f'test_dataloader.dataset of {cfg.filename} joins or repeats data sets; give a single one'
        )
    return dataset


def open_samples(
    cfg: Config, limit: int | None, pipeline: Sequence[dict], make: Callable[[dict], Sample]
) -> Samples:
    """Return the images of the test data set.

    Args:
        cfg: config of the model.
        limit: number of images to take; None for all.
        pipeline: configs of the transforms.
        make: function from the pipeline's results to a sample.
    """
    return Samples(build_dataset(test_dataset(cfg), cfg.default_scope, pipeline), limit, make)


def _with_lengths(facts: Mapping, root: str) -> dict:
    """Make paths relative to the data root, and add the length of each file."""
    found = {}
    for name, value in facts.items():
        if name.endswith('_path') and value:
            length = Path(value).stat().st_size if Path(value).is_file() else None
            value = [os.path.relpath(value, root or '.'), length]
        found[name] = value
    return found


class Adapter(Protocol):
    """Interface of a task for analyses.

    Attributes:
        name: name of the task in files and messages.
        is_cropped: whether corruptions are applied after resizing and cropping, not before.
        loss_takes_one: whether the loss for attacks takes one image at a time.
    """

    name: str
    is_cropped: bool
    loss_takes_one: bool

    @classmethod
    def of(cls, model: nn.Module) -> Optional['Adapter']:
        """Return the adapter for a model; None if it has a different task."""

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """Return the images of the config's test data set, or the first `limit` of them."""

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list:
        """Return predictions for images.

        Args:
            model: model in eval mode.
            images: images (H, W, 3), uint8, BGR, all of the same size.
        """

    def measure(self, prediction: Any, truth: Any) -> dict[str, np.ndarray]:
        """Compare a prediction with the truth; return arrays that `combined` can combine."""

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Combine arrays of many images, in order, into one."""

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return metrics from combined arrays, in percent; NaN if undefined."""


def task_of(model: nn.Module) -> Adapter:
    """Return the adapter for the task of a model.

    Raises:
        UserError: the model is not a classifier, detector or segmentor.
    """
    for task in TASKS.values():
        if adapter := task.analysis_adapter.of(model):
            return adapter
    raise UserError(
        f'{type(model).__name__} is not an ImageClassifier, an mmdet detector or an mmseg segmentor; '
        'give a config of one of these'
    )


def as_tensors(images: Sequence[np.ndarray]) -> list[Tensor]:
    """Convert images (H, W, 3) to tensors (3, H, W)."""
    return [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]


def batches(images: Sequence[np.ndarray], batch: int) -> Iterator[Sequence[np.ndarray]]:
    """Yield runs of up to `batch` images of the same size, since padding would change predictions."""
    start = 0
    for stop in range(1, len(images) + 1):
        is_full = stop - start == batch or stop == len(images)
        if is_full or images[stop].shape != images[start].shape:
            yield images[start:stop]
            start = stop


def mean_color(cfg: Config) -> tuple[int, int, int]:
    """Return the preprocessor's mean, rounded, in BGR order; black if it has none."""
    settings = cfg.model.get('data_preprocessor') or {}
    mean = [round(value) for value in settings.get('mean') or (0, 0, 0)]
    return tuple(mean[::-1] if settings.get('bgr_to_rgb') else mean)
