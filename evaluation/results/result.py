"""The content of a `result.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evaluation.tasks import TASKS, Contestant, Recipe


@dataclass(frozen=True)
class Training:
    """Training progress: `done` of `total` epochs or iterations, None if unknown."""

    unit: str
    done: int | None
    total: int | None

    @property
    def finished(self) -> bool:
        """Whether training is known to be finished."""
        return None not in (self.done, self.total) and self.done >= self.total


@dataclass(frozen=True)
class Flops:
    """Multiply-adds for one image of `height` x `width` pixels, except `uncounted_operators`."""

    count: int
    height: int
    width: int
    uncounted_operators: tuple[str, ...]


@dataclass(frozen=True)
class EvidenceFile:
    """The evidence file of an evaluation and its digest."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Domain:
    """A domain of a shift suite: key of the suite, and name of the domain."""

    suite: str
    name: str


@dataclass(frozen=True)
class Result:
    """One evaluation of one checkpoint.

    `metrics` are in percent, None if undefined (no ground truth); a detector without masks has no mask
    metrics. `flops` is None if they could not be counted, and in older files. `images` is the number of
    evaluated images, without `images_skipped`. Older files lack `evidence`, the digests of config and
    data, and facts about the training, which are then None. `variant` of the recipe is `fair` or
    `released`, None if unknown or if the training has a custom weight decay rule. `created` has a time
    zone. `path` is the file that the result was read from. `domain` is None for a test in distribution.
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
    domain: Domain | None = None
    calibration: Mapping[str, float | None] | None = None

    @property
    def task(self) -> str:
        """Key of its task."""
        return self.recipe.task

    @property
    def headline_metrics(self) -> tuple[str, ...]:
        """Names of its metrics among those of its task."""
        return tuple(name for name in TASKS[self.task].headlines if name in self.metrics)

    @property
    def start(self) -> str | None:
        """Start of the backbone: `scratch` or `pretrained`; None if unknown."""
        if self.initialization is None:
            return None
        return 'scratch' if self.initialization == 'scratch' else 'pretrained'

    @property
    def training(self) -> Training:
        """Training progress, in epochs if their number was planned, else in iterations."""
        states = (
            Training('epoch', self.epoch, self.max_epochs),
            Training('iter', self.iteration, self.max_iterations),
        )
        # `max` returns the first of equally complete states.
        return max(states, key=lambda state: (state.total is not None, state.done is not None))


def shown_metrics(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the metrics that any of several results of one task has, for the columns of a table."""
    known = {name for result in results for name in result.headline_metrics}
    return tuple(name for name in TASKS[results[0].task].headlines if name in known)


def shared_metrics(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the metrics that all of several results of one task have, for comparisons."""
    return tuple(
        name
        for name in TASKS[results[0].task].headlines
        if all(name in result.metrics for result in results)
    )
