"""Dataclasses of tasks, recipes and contestants.

A task is data. Code that needs torch or the per-image records is named by a reference, `module:name`,
and imported on first use, so that the commands for tables start quickly.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pkgutil import resolve_name
from typing import Any

# Variants of a recipe: fair to all mixers, or as released.
FAIR, RELEASED = 'fair', 'released'
FROZEN, LINEAR = 'frozen', 'linear'
# Protocols, in the words of tables.
PROTOCOLS = {FROZEN: 'frozen backbone', LINEAR: 'linear probe'}
# Facts of a recipe that the options of commands state.
OF_THE_COMMAND = ('protocol', 'fraction', 'fraction_seed')


def stated_by_command(recipe: object) -> dict[str, Any]:
    """Return the facts of `OF_THE_COMMAND` in the recipe of a config that are not None.

    Args:
        recipe: recipe of a config; anything else, as in a damaged config, states nothing.
    """
    stated = recipe if isinstance(recipe, Mapping) else {}
    return {fact: stated[fact] for fact in OF_THE_COMMAND if stated.get(fact) is not None}


@dataclass(frozen=True)
class Recipe:
    """A training and evaluation that contestants share, as declared by a page of `configs/_base_`.

    None means not stated. Results are not compared with published figures if their recipe leaves out a
    fact that the comparison needs.

    Attributes:
        name: key for looking up published figures.
        task: key of the task.
        title: title of tables, such as `Mask R-CNN`. Recipes with the same title share tables.
        dataset: name of the published data set, as tables print it.
        images: number of evaluated images.
        epochs: length of the training; None if it is in iterations.
        iterations: length of the training in iterations; None if it is in epochs.
        batch_size: images per step.
        start: where training starts, `pretrained` or `scratch`.
        any_length: whether results of unknown training length are compared with published figures.
        flops_size: height and width of the image for FLOPs; None for the size of the task.
        multi_scale: whether training images have several sizes.
        pretraining: what the backbone was trained on before, such as `MAE`.
        protocol: what trains, `frozen` or `linear`; None if the whole network does. An option of the
            commands, not a fact of a page.
        fraction: share of the training images, between 0 and 1; None for all. Also an option.
        fraction_seed: seed of the list of these images; None without a fraction.
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
    multi_scale: bool | None = None
    pretraining: str | None = None
    protocol: str | None = None
    fraction: float | None = None
    fraction_seed: int | None = None

    @property
    def setting(self) -> str:
        """The protocol and the fraction of the training images; '' without both."""
        parts = []
        if self.protocol is not None:
            parts.append(PROTOCOLS.get(self.protocol, self.protocol))
        if self.fraction is not None:
            parts.append(f'{100 * self.fraction:g} % of the training images')
        return ', '.join(parts)

    @property
    def heading(self) -> str:
        """The title with the setting."""
        return ', '.join(filter(None, (self.title, self.setting)))

    @property
    def length(self) -> str | None:
        """`12 epochs` or `160000 iterations`."""
        if self.epochs is not None:
            return f'{self.epochs} epochs'
        return None if self.iterations is None else f'{self.iterations} iterations'

    def as_json(self) -> dict:
        """Return all facts, as configs and results state them."""
        return asdict(self)


@dataclass(frozen=True)
class Contestant:
    """A network that competes in tables.

    Attributes:
        name: name in tables, such as `dcn_tiny` or `original_swin_tiny`.
        family: `unified` for the unified architecture, `original` for the network that a mixer was first
            published in (and ResNet-50), `timm` for a model of timm, else the package that the network
            comes from; None in older results, which do not state it.
        mixer: spatial token mixer; None if the network uses none of the suite's mixers. Tables of
            differences pair networks of two families by mixer and scale.
        scale: scale, such as `tiny`; None if it has none.
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
        heading: column heading in Markdown.
        latex: column heading in LaTeX.
        words: name in a sentence.
        digits: digits after the decimal point, as papers print it.
        is_primary: whether sentences and comparisons with published figures use it.
        is_share: whether it is the share of images with a correct answer, whose interval is exact.
        published: key in the file of published figures; None if it has none.
        published_augmented: key for figures with test-time augmentation; None if it has none.
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
        """Return the key in the file of published figures.

        Args:
            is_augmented: whether the figure uses test-time augmentation.
        """
        return self.published_augmented if is_augmented else self.published


@dataclass(frozen=True)
class OptionalOutput:
    """An output that some models of a task lack, such as masks.

    Attributes:
        metrics: names of its metrics; a result has all of them or none.
        title: title of tables that include models without it.
        obstacle: reason why a model without it is not compared with a published figure.
        caution: note on comparing a model that has it with one that lacks it.
    """

    metrics: tuple[str, ...]
    title: str
    obstacle: str
    caution: str


@dataclass(frozen=True)
class Earlier:
    """How a task appears in results and configs from before pages declared recipes.

    Attributes:
        key: former key of the task.
        recipe: recipe of its pages.
        longer: recipes of different lengths.
    """

    key: str
    recipe: Recipe
    longer: tuple[Recipe, ...] = ()

    def recipe_of(self, epochs: int | None) -> Recipe:
        """Return the recipe for a training length.

        Args:
            epochs: number of epochs; None if unknown or in iterations.
        """
        return next((each for each in self.longer if each.epochs == epochs), self.recipe)


@dataclass(frozen=True)
class Task:
    """Everything that the suite knows about a task.

    Attributes:
        key: key in recipes and in `result.json`.
        metrics: metrics in the order of table columns. Tasks that use the same name share the metric.
        record: reference to the class of its per-image records, a subclass of `Evidence`.
        heads: modules that identify its models; the first that a model has counts.
        flops_size: height and width of the image for FLOPs, unless a recipe states another size.
        analysis: reference to the adapter through which analyses access its models.
        optional: output that some of its models lack.
        overlaps: kinds of overlap that match its objects; each has an analysis of errors.
        earlier: how earlier results state it; None if they do not have the task.
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
        """Names of the metrics in tables."""
        return tuple(metric.name for metric in self.metrics)

    @property
    def primary(self) -> tuple[str, ...]:
        """Names of the metrics in sentences and in comparisons with published figures."""
        return tuple(metric.name for metric in self.metrics if metric.is_primary)

    @property
    def digits(self) -> int:
        """Digits after the decimal point of its figures."""
        return self.metrics[0].digits

    @property
    def record_type(self) -> Any:
        """The class of its per-image records."""
        return resolve_name(self.record)

    @property
    def analysis_adapter(self) -> Any:
        """The class through which analyses access its models."""
        return resolve_name(self.analysis)

    def missing_metric(self, metrics: Mapping[str, object]) -> str | None:
        """Return the name of a required metric that a result lacks; None if it has all.

        Args:
            metrics: metrics of the result, by name.
        """
        left_out = self.optional.metrics if self.optional else ()
        if not metrics.keys().isdisjoint(left_out):
            left_out = ()
        needed = (name for name in self.headlines if name not in left_out)
        return next((name for name in needed if name not in metrics), None)
