"""The records of tasks, recipes and contestants.

A task is data. What needs torch or the per-image records is named by a reference, `module:name`, and
imported on first use, so that tables start quickly.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pkgutil import resolve_name
from typing import Any

# Variants of a recipe: fair to all mixers, or as released.
FAIR, RELEASED = 'fair', 'released'


@dataclass(frozen=True)
class Recipe:
    """A training and evaluation that contestants share, as a page of `configs/_base_` declares it.

    Facts that are None are not stated. Results of a recipe that leaves one out are not compared with
    published figures.

    Attributes:
        name: under which published figures are found.
        task: key of the task.
        title: of tables, such as `Mask R-CNN`. Recipes of one title share tables.
        dataset: name of the data that published figures are of, as tables print it.
        images: how many are evaluated.
        epochs: length of the training; None where it is in iterations.
        iterations: the same of a training by iterations.
        batch_size: images of a step.
        start: where trainings start, `pretrained` or `scratch`.
        any_length: whether results of trainings of unknown length are compared with published figures.
        flops_size: height and width of the image that FLOPs are of; None for that of the task.
    """

    name: str
    task: str
    title: str
    dataset: str
    images: int | None = None
    epochs: int | None = None
    iterations: int | None = None
    batch_size: int | None = None
    start: str | None = None
    any_length: bool = False
    flops_size: tuple[int, int] | None = None

    @property
    def length(self) -> str | None:
        """`12 epochs` or `160000 iterations`."""
        if self.epochs is not None:
            return f'{self.epochs} epochs'
        return None if self.iterations is None else f'{self.iterations} iterations'

    def as_json(self) -> dict:
        """All facts, as a config and a result state them."""
        return asdict(self)


@dataclass(frozen=True)
class Contestant:
    """A network whose results are compared with those of others.

    Attributes:
        name: in tables, such as `dcn_tiny` or `r50`.
        family: networks of one design: `unified` of the suite's, else the library that it comes from;
            None in results of before it was told.
        mixer: spatial token mixer, None where the network has none of the suite's.
        scale: `tiny`, say; None where it has none.
    """

    name: str
    family: str | None = None
    mixer: str | None = None
    scale: str | None = None


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
        published: its key in the file of published figures; None where it has none.
        published_augmented: the same of figures with test-time augmentation.
    """

    name: str
    heading: str
    latex: str
    words: str
    digits: int = 1
    is_primary: bool = False
    is_share: bool = False
    published: str | None = None
    published_augmented: str | None = None

    def published_key(self, is_augmented: bool) -> str | None:
        """Its key in the file of published figures.

        Args:
            is_augmented: whether the figure is one with test-time augmentation.
        """
        return self.published_augmented if is_augmented else self.published


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
class Earlier:
    """How results and configs of before pages declared recipes state a task.

    Attributes:
        key: of the task.
        recipe: the one that its pages had.
        longer: those of other lengths.
    """

    key: str
    recipe: Recipe
    longer: tuple[Recipe, ...] = ()

    def recipe_of(self, epochs: int | None) -> Recipe:
        """The recipe of a training of so many epochs; None where that is not known, or in iterations."""
        return next((each for each in self.longer if each.epochs == epochs), self.recipe)


@dataclass(frozen=True)
class Task:
    """All that the suite knows of a task.

    Attributes:
        key: in recipes and in `result.json`.
        metrics: those that tables show, in their order. Tasks that share a name share the metric.
        record: reference to the class of its per-image records, a subclass of `Evidence`.
        heads: modules by which its models are known, the first that a model has.
        flops_size: height and width of the image that FLOPs are of, unless a recipe states others.
        analysis: reference to the adapter through which analyses see its models.
        optional: what some of its models do not predict.
        overlaps: kinds of overlap by which its objects are found; each has an analysis of errors.
        earlier: how earlier results state it; None for a task that they do not know.
    """

    key: str
    metrics: tuple[Metric, ...]
    record: str
    heads: tuple[str, ...]
    flops_size: tuple[int, int]
    analysis: str
    optional: OptionalOutput | None = None
    overlaps: tuple[str, ...] = ()
    earlier: Earlier | None = None

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
