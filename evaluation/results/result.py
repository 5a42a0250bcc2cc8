"""What is read of a `result.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evaluation.tasks import TASKS, Contestant, Recipe


@dataclass(frozen=True)
class Training:
    """How far a model was trained: `done` of `total` epochs or iterations, None where unknown."""

    unit: str
    done: int | None
    total: int | None

    @property
    def finished(self) -> bool:
        """Whether the model is known to be at the end of its training."""
        return None not in (self.done, self.total) and self.done >= self.total


@dataclass(frozen=True)
class Flops:
    """Multiply-adds on one image of `height` x `width` pixels, but for `uncounted_operators`."""

    count: int
    height: int
    width: int
    uncounted_operators: tuple[str, ...]


@dataclass(frozen=True)
class EvidenceFile:
    """Where the evidence of an evaluation is, and the digest of that file."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Result:
    """One evaluation of one checkpoint.

    `metrics` are in percent, None where undefined (no ground truth); a detector without masks lacks
    those of masks. `flops` are None where they could not be counted, and in files of before they were.
    `images` are those evaluated, without the `images_skipped`. The digests of config and
    data, `evidence`, what each image contributed, and how the training went are None in files of before
    they were told. `variant` of the recipe is `fair` or `released`, None where it is not known
    or the training has a rule of its own.
    `created` has a time zone. `path` is the file that it was read from.
    """

    recipe: Recipe
    contestant: Contestant
    dataset: str
    metrics: Mapping[str, float | None]
    per_class: Mapping[str, Mapping[str, float | None]]
    evidence: EvidenceFile | None
    config: str
    config_sha256: str | None
    config_sha256_version_1: str | None
    data_sha256: str | None
    checkpoint: str | None
    checkpoint_sha256: str | None
    weights_sha256: str | None
    epoch: int | None
    iteration: int | None
    max_epochs: int | None
    max_iterations: int | None
    training_data_sha256: str | None
    total_parameters: int
    backbone_parameters: int
    flops: Flops | None
    batch_size: int | None
    mixed_precision: bool | None
    learning_rate_scaled: bool | None
    seed: int | None
    images: int
    images_skipped: int
    initialization: str | None
    test_time_augmentation: bool
    wall_time_seconds: float | None
    created: datetime
    path: Path
    variant: str | None = None

    @property
    def task(self) -> str:
        """Key of its task."""
        return self.recipe.task

    @property
    def headline_metrics(self) -> tuple[str, ...]:
        """The metrics of its task that it has."""
        return tuple(name for name in TASKS[self.task].headlines if name in self.metrics)

    @property
    def start(self) -> str | None:
        """Whether the backbone started from `scratch` or from other weights, `pretrained`."""
        if self.initialization is None:
            return None
        return 'scratch' if self.initialization == 'scratch' else 'pretrained'

    @property
    def training(self) -> Training:
        """State of training, in epochs where their number was planned, else in iterations."""
        states = (
            Training('epoch', self.epoch, self.max_epochs),
            Training('iter', self.iteration, self.max_iterations),
        )
        # Of equally known states `max` returns the first.
        return max(states, key=lambda state: (state.total is not None, state.done is not None))


def shown_metrics(results: Sequence[Result]) -> tuple[str, ...]:
    """The metrics that any of several results of one task has, for the columns of a table."""
    known = {name for result in results for name in result.headline_metrics}
    return tuple(name for name in TASKS[results[0].task].headlines if name in known)


def shared_metrics(results: Sequence[Result]) -> tuple[str, ...]:
    """The metrics by which several results of one task can be compared, since all have them."""
    return tuple(
        name
        for name in TASKS[results[0].task].headlines
        if all(name in result.metrics for result in results)
    )
