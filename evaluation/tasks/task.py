"""The record of a task: what models predict, how it is scored, and how tables print the scores.

A task is data. What needs torch or the per-image records is named by a reference, `module:name`, and
imported on first use, so that tables start quickly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A figure of a task, in percent.

    Attributes:
        name: key in `result.json`.
        heading: of its column in Markdown.
        latex: the same in LaTeX.
        words: its name in a sentence.
        digits: after the point, as papers print it.
        is_primary: whether sentences and comparisons with published figures are about it.
        is_share: whether it is the share of images with a right answer, whose interval is exact.
    """

    name: str
    heading: str
    latex: str
    words: str
    digits: int = 1
    is_primary: bool = False
    is_share: bool = False


@dataclass(frozen=True)
class OptionalOutput:
    """What some models of a task do not predict, such as masks.

    Attributes:
        metrics: names of those that score it; a result has all of them or none.
        title: of a table with models that lack it.
        obstacle: why a model without it stands beside no published figure.
        caution: about a comparison of two models of which one lacks it.
    """

    metrics: tuple[str, ...]
    title: str
    obstacle: str
    caution: str


@dataclass(frozen=True)
class PublishedRecipe:
    """The training and evaluation that published figures of a task come from.

    Attributes:
        name: in the file of published figures.
        dataset: name of the evaluated data, as results state it.
        unit: `epochs` or `iterations`.
        length: of the training, in this unit.
        images: how many are evaluated.
        start: where trainings started, as `Result.start` states it.
        batch_size: images of a step.
        figures: key in the file of a metric's figure, by the metric's name and whether it is measured
            with test-time augmentation. Figures with it may be missing.
        any_length: whether results of trainings of unknown length are compared, too.
        batch_sizes: exceptions to `batch_size`, by mixer.
    """

    name: str
    dataset: str
    unit: str
    length: int
    images: int
    start: str
    batch_size: int
    figures: Mapping[tuple[str, bool], str]
    any_length: bool = False
    batch_sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """All that the suite knows of a task.

    Attributes:
        key: in `result.json` and in names of configs, `<key>_<mixer>_<scale>.py`.
        title: of tables.
        metrics: those that tables show, in their order. Tasks that share a name share the metric.
        record: reference to the class of its per-image records, a subclass of `Evidence`.
        heads: modules by which its models are known, the first that a model has.
        flops_size: height and width of the image that published FLOPs are of.
        analysis: reference to the adapter through which analyses see its models.
        optional: what some of its models do not predict.
        overlaps: kinds of overlap by which its objects are found; each has an analysis of errors.
        published: where published figures come from; None where there are none.
    """

    key: str
    title: str
    metrics: tuple[Metric, ...]
    record: str
    heads: tuple[str, ...]
    flops_size: tuple[int, int]
    analysis: str
    optional: OptionalOutput | None = None
    overlaps: tuple[str, ...] = ()
    published: PublishedRecipe | None = None

    @property
    def headlines(self) -> tuple[str, ...]:
        """Names of the metrics that tables show."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def primary(self) -> tuple[str, ...]:
        """Names of the metrics that sentences and comparisons with published figures are about."""
        return tuple(metric.name for metric in self.metrics if metric.is_primary)

    @property
    def digits(self) -> int:
        """Digits after the point of its figures."""
        return self.metrics[0].digits

    @property
    def record_type(self) -> Any:
        """The class of its per-image records."""
        return resolve_name(self.record)

    @property
    def analysis_adapter(self) -> Any:
        """The class through which analyses see its models."""
        return resolve_name(self.analysis)

    def missing_metric(self, metrics: Mapping[str, object]) -> str | None:
        """Name a metric that a result must have and lacks; None where it lacks none.

        Args:
            metrics: of the result, by name.
        """
        left_out = self.optional.metrics if self.optional else ()
        if not metrics.keys().isdisjoint(left_out):
            left_out = ()
        needed = (name for name in self.headlines if name not in left_out)
        return next((name for name in needed if name not in metrics), None)
