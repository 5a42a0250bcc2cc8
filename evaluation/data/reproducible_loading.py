"""Augmentation that depends on the seed and the sample alone.

Ordinarily a transform draws from the generators of whatever worker it runs in, so that what is drawn for
an image depends on how many workers there are and on all that they did before: it changes with
`num_workers`, and a resumed training sees other crops than one that was never interrupted. Here every
sample is drawn from a generator of its own.
"""

from collections.abc import Iterator
from typing import Any

from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import Dataset

from evaluation.utils.random_state import seeded


class DrawnIndex(int):
    """Index of a sample with the number of its draw: each draw of an image is augmented differently."""

    draw: int

    def __new__(cls, index: int, draw: int) -> 'DrawnIndex':
        self = super().__new__(cls, index)
        self.draw = draw
        return self

    def __reduce__(self) -> tuple:
        return DrawnIndex, (int(self), self.draw)


@DATA_SAMPLERS.register_module()
class SeededSampler(DefaultSampler):
    """mmengine's sampler of epochs; an index knows its epoch."""

    def __iter__(self) -> Iterator[DrawnIndex]:
        return (DrawnIndex(index, self.epoch) for index in super().__iter__())


@DATA_SAMPLERS.register_module()
class SeededInfiniteSampler(InfiniteSampler):
    """mmengine's sampler of iterations; an index knows its place in the sequence of this process."""

    def _indices_of_rank(self) -> Iterator[DrawnIndex]:
        return (DrawnIndex(index, place) for place, index in enumerate(super()._indices_of_rank()))


SEEDED_SAMPLERS = (SeededSampler.__name__, SeededInfiniteSampler.__name__)


@DATASETS.register_module()
class SeededDataset(Dataset):
    """A data set whose random transforms draw from a generator of the sample's own.

    Args:
        dataset: an mmengine data set, or its config.
        seed: of the whole training.
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
        # Only what is not here; `dataset` itself is missing while a worker unpickles this.
        if name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)
