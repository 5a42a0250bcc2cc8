"""Adapters through which analyses see a task: images with their truth, predictions and measures."""

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
    """An image and what is true of it.

    Attributes:
        name: path of the file.
        image: (H, W, 3), uint8, BGR, as the model's preprocessor takes it.
        truth: in the same frame; what kind it is of says the task.
        original: in classification, the image before it was resized and cropped; elsewhere None.
    """

    name: str
    image: np.ndarray
    truth: Any
    original: np.ndarray | None = None


class Samples(Sequence[Sample]):
    """The first images of a data set.

    Args:
        dataset: of mmengine; its pipeline ends before the images are packed.
        limit: take so many, the first; None takes all.
        make: makes a sample of what the pipeline returns.
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
        """A sample whose image is changed as soon as it is loaded, before it is resized.

        Args:
            index: of the image.
            change: makes of an image (H, W, 3), uint8, BGR, another of its size.
        """
        results, is_loaded = self._dataset.get_data_info(index), False
        for step in self._dataset.pipeline.transforms:
            results = step(results)
            if not is_loaded and 'img' in results:
                results['img'], is_loaded = change(results['img']), True
        return self._make(results)

    def digest(self) -> str:
        """SHA-256 of the names, lengths and annotations of the files, in their order.

        Of no image's content, which would take as long to read as the analysis.
        """
        digest = hashlib.sha256()
        for index in range(self._count):
            facts = _with_lengths(self._dataset.get_data_info(index), self._dataset.data_root or '')
            digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        return digest.hexdigest()


def test_dataset(cfg: Config) -> ConfigDict:
    """Config of the data set that a model is tested on.

    Raises:
        UserError: several are joined.
    """
    dataset = cfg.test_dataloader.dataset
    if [*plain_datasets(dataset)] != [dataset]:
        raise UserError(
            f'test_dataloader.dataset of {cfg.filename} joins or repeats others; give a single data set'
        )
    return dataset


def open_samples(
    cfg: Config, limit: int | None, pipeline: Sequence[dict], make: Callable[[dict], Sample]
) -> Samples:
    """The images of the test data set.

    Args:
        cfg: of the model.
        limit: take so many, the first; None takes all.
        pipeline: configs of the transforms.
        make: makes a sample of what the pipeline returns.
    """
    return Samples(build_dataset(test_dataset(cfg), cfg.default_scope, pipeline), limit, make)


def _with_lengths(facts: Mapping, root: str) -> dict:
    """What a data set says of an image, its paths relative to the data root and with their lengths."""
    found = {}
    for name, value in facts.items():
        if name.endswith('_path') and value:
            length = Path(value).stat().st_size if Path(value).is_file() else None
            value = [os.path.relpath(value, root or '.'), length]
        found[name] = value
    return found


class Adapter(Protocol):
    """What an analysis needs of a task.

    Attributes:
        name: in files and messages.
        is_cropped: whether images are corrupted after they are resized and cropped, not before.
        loss_takes_one: whether the loss that attacks raise takes one image at a time.
    """

    name: str
    is_cropped: bool
    loss_takes_one: bool

    @classmethod
    def of(cls, model: nn.Module) -> Optional['Adapter']:
        """Return the adapter of a model; None where it is of another task."""

    def samples(self, cfg: Config, limit: int | None) -> Samples:
        """The images of the config's test data set, or so many, the first."""

    def predict(self, model: nn.Module, images: Sequence[np.ndarray]) -> list:
        """Predictions for images.

        Args:
            model: in eval mode.
            images: each (H, W, 3), uint8, BGR, all of one size.
        """

    def measure(self, prediction: Any, truth: Any) -> dict[str, np.ndarray]:
        """Compare a prediction with the truth, in arrays that `combined` puts together."""

    def combined(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Arrays of many images, in their order, as one."""

    def metrics(self, arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Figures from combined arrays, in percent; NaN for one that nothing can be said of."""


def task_of(model: nn.Module) -> Adapter:
    """Return the adapter of the first task that a model is of.

    Raises:
        UserError: it is no classifier, detector or segmentor.
    """
    for task in TASKS.values():
        if adapter := task.analysis_adapter.of(model):
            return adapter
    raise UserError(
        f'{type(model).__name__} is no ImageClassifier, detector of mmdet or segmentor of mmseg; '
        'give the config of one'
    )


def as_tensors(images: Sequence[np.ndarray]) -> list[Tensor]:
    """Images (H, W, 3) as (3, H, W)."""
    return [torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in images]


def batches(images: Sequence[np.ndarray], batch: int) -> Iterator[Sequence[np.ndarray]]:
    """Runs of images of one size, each of at most `batch`: padding would change what is predicted."""
    start = 0
    for stop in range(1, len(images) + 1):
        is_full = stop - start == batch or stop == len(images)
        if is_full or images[stop].shape != images[start].shape:
            yield images[start:stop]
            start = stop


def mean_color(cfg: Config) -> tuple[int, int, int]:
    """The mean that the model's preprocessor subtracts, rounded, in BGR order; black without one."""
    settings = cfg.model.get('data_preprocessor') or {}
    mean = [round(value) for value in settings.get('mean') or (0, 0, 0)]
    return tuple(mean[::-1] if settings.get('bgr_to_rgb') else mean)
