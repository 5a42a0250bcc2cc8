"""Images of the test data set as a model sees them, with their truth, loaded when asked for."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset

from evaluation.data.dataset_config import plain_datasets
from evaluation.data.image_loading import build_dataset
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
