"""Read published results and find those that a result can be compared with.

`configs/published.json` lists figures from papers and repositories, each with its source. Figures of the
*unified* architecture are for exactly the networks that this suite trains. *Original* figures are for
the network that a mixer was first published in, such as Swin or ConvNeXt.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.results.result import Result
from evaluation.tasks import FAIR, TASKS, Metric, Task, find_metric
from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text

PACKAGED = Path(__file__).parents[2] / 'configs/published.json'

# In order of preference.
UNIFIED = 'unified'
ARCHITECTURES = (UNIFIED, 'original')


@dataclass(frozen=True)
class Entry:
    """Published figures, in percent, of one model with one recipe, from one source.

    Attributes:
        model: name of the contestant.
        recipe: name of the recipe.
        architecture: one of `ARCHITECTURES`.
        source: where the figures were published.
        figures: figures by key in the file, see `Metric.published`.
        checkpoint: URL of the weights, if released.
        mixer: mixer of the contestant, if any.
        scale: scale of the contestant, if any.
        batch_size: images per step, if different from the recipe.
        parameters: parameters of the whole model, if stated.
        flops: multiply-adds of the whole model, if stated.
    """

    model: str
    recipe: str
    architecture: str
    source: str
    figures: Mapping[str, float]
    checkpoint: str | None = None
    mixer: str | None = None
    scale: str | None = None
    batch_size: int | None = None
    parameters: float | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Figure:
    """One published figure, in percent."""

    value: float
    architecture: str
    source: str


def load_published(file: Path = PACKAGED) -> list[Entry]:
    """Read the published results.

    Raises:
        UserError: the file is missing or malformed.
    """
    try:
        data = json.loads(read_text(Path(file)))
    except OSError as error:
        raise UserError(
            f'{file}: published results cannot be read ({error.strerror}); give a different file, or '
            "'none'"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{file}: not JSON ({error})') from error
    if type(data) is not list:
        raise UserError(f'{file}: not a list of published results; see {PACKAGED.name} for an example')
    entries: dict[tuple[str, str, str], Entry] = {}
    for number, item in enumerate(data, start=1):
        try:
            entry = _parse(item)
            key = (entry.model, entry.recipe, entry.architecture)
            if key in entries:
                raise ValueError(f'duplicate of {", ".join(key)}')
        except ValueError as error:
            raise UserError(f'{file}: entry {number}: {error}') from error
        entries[key] = entry
    return list(entries.values())


def find_figure(entries: Sequence[Entry], result: Result, metric: str) -> Figure | None:
    """Return the published figure that `metric` of `result` can be compared with, or None.

    It must be for the same backbone and the whole data set, and `obstacles` must find nothing. mIoU with
    test-time augmentation is compared with multi-scale mIoU. Figures of the unified architecture take
    precedence over original ones.
    """
    if not is_whole_data_set(result):
        return None
    key = find_metric(metric).published_key(result.test_time_augmentation)
    candidates = [
        Figure(entry.figures[key], entry.architecture, entry.source)
        for entry in entries_of(entries, result)
        if key in entry.figures and not obstacles(result, entry)
    ]
    return min(candidates, key=lambda figure: ARCHITECTURES.index(figure.architecture), default=None)


def differs_in_recipe(result: Result, figure: Figure) -> bool:
    """Return whether a result and a published figure used different variants of the recipe.

    The unified backbones were published with the released recipes, original networks with their own.
    """
    return figure.architecture == UNIFIED and result.variant == FAIR


def is_another_network(result: Result, figure: Figure) -> bool:
    """Return whether a figure is for the original network of a mixer instead of the unified one."""
    is_own = not is_unified(result) or result.contestant.mixer is None
    return figure.architecture != UNIFIED and not is_own


def why_not_compared(entries: Sequence[Entry], result: Result) -> str | None:
    """Return why a result is not compared with a published figure, although its backbone has one.

    Return None if it is compared, if nothing is published, or if the data set is different.
    """
    own = entries_of(entries, result)
    if not is_published_data_set(result) or not own:
        return None
    found = min((obstacles(result, entry) for entry in own), key=len)
    if not is_whole_data_set(result):
        found = (f'{result.images:,} of {result.recipe.images:,} images', *found)
    return '; '.join(found) or None


def obstacles(result: Result, entry: Entry) -> tuple[str, ...]:
    """Return the known differences in training and evaluation between a result and a published figure.

    An unknown start or batch size of the result is not an obstacle; `is_recipe_unknown` reports it. A
    start or batch size that the recipe does not state is one.
    """
    task, recipe = TASKS[result.task], result.recipe
    planned = result.max_iterations if recipe.epochs is None else result.max_epochs
    unit = 'iterations' if recipe.epochs is None else 'epochs'
    batch_size = entry.batch_size or recipe.batch_size
    found = [] if recipe.images else ['the recipe does not state the number of images']
    if recipe.start is None or result.start not in (None, recipe.start):
        found.append(f'start {result.start or "unknown"}, published {recipe.start or "not stated"}')
    if planned is None and not (recipe.any_length and recipe.length):
        found.append(f'length unknown, published {recipe.length or "not stated"}')
    elif planned not in (None, recipe.epochs or recipe.iterations):
        found.append(f'{planned} {unit}, published {recipe.epochs or recipe.iterations or "not stated"}')
    if batch_size is None or result.batch_size not in (None, batch_size):
        own = 'unknown' if result.batch_size is None else result.batch_size
        found.append(f'batch size {own}, published {batch_size or "not stated"}')
    if not any(find_metric(n).published_key(result.test_time_augmentation) for n in task.primary):
        found.append('test-time augmentation, published without')
    if task.optional and not {*task.primary} <= result.metrics.keys() and _has_optional(task, entry):
        found.append(task.optional.obstacle)
    return tuple(found)


def _has_optional(task: Task, entry: Entry) -> bool:
    """Return whether the published model has the optional output of a task."""
    return any(find_metric(name).published in entry.figures for name in task.optional.metrics)


def is_recipe_unknown(result: Result) -> bool:
    """Return whether the start or the batch size of a result's training is unknown."""
    return result.start is None or result.batch_size is None


def entries_of(entries: Sequence[Entry], result: Result) -> list[Entry]:
    """Return the published entries for the contestant and recipe of a result."""
    own, recipe = result.contestant, result.recipe.name
    found = [entry for entry in entries if (entry.model, entry.recipe) == (own.name, recipe)]
    return [entry for entry in found if is_unified(result) or entry.architecture != UNIFIED]


def is_unified(result: Result) -> bool:
    """Return whether a result is for the unified architecture; older results do not state it."""
    return result.contestant.family in (None, UNIFIED)


def is_published_data_set(result: Result) -> bool:
    """Return whether a result is on the published data set."""
    return result.dataset == result.recipe.dataset


def is_whole_data_set(result: Result) -> bool:
    """Return whether a result is on all images of the published data set."""
    return is_published_data_set(result) and result.recipe.images in (None, result.images)


def _parse(item: object) -> Entry:
    if type(item) is not dict:
        raise ValueError('not an object')
    # Files from before recipes have the key `task`.
    item = {'recipe': item.get('task'), **item}
    for key in ('model', 'recipe', 'architecture', 'source'):
        if type(item.get(key)) is not str:
            raise ValueError(f'{key!r} is missing or not text')
    if item['architecture'] not in ARCHITECTURES:
        raise ValueError(f"'architecture' is not one of {', '.join(ARCHITECTURES)}")
    keys = [key for task in TASKS.values() for metric in task.metrics for key in _keys_of(metric)]
    figures = {key: _percentage(item, key) for key in keys if key in item}
    if not figures:
        raise ValueError(f'no figure; give one of {", ".join(keys)}')
    texts = {key: item.get(key) for key in ('checkpoint', 'mixer', 'scale')}
    for key, value in texts.items():
        if value is not None and type(value) is not str:
            raise ValueError(f'{key!r} is not text')
    batch_size = item.get('batch_size')
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise ValueError("'batch_size' is not a positive whole number")
    return Entry(
        item['model'],
        item['recipe'],
        item['architecture'],
        item['source'],
        figures,
        **texts,
        batch_size=batch_size,
        parameters=_scaled(item, 'params_million', 1e6),
        flops=_scaled(item, 'gflops', 1e9),
    )


def _keys_of(metric: Metric) -> list[str]:
    return [key for key in (metric.published, metric.published_augmented) if key]


def _scaled(item: dict, key: str, unit: float) -> float | None:
    value = item.get(key)
    if value is None:
        return None
    # Not a number (NaN) fails the comparison.
    if type(value) not in (int, float) or not 0 < value < 1e9:
        raise ValueError(f'{key!r} is not a positive number')
    return value * unit


def _percentage(item: dict, key: str) -> float:
    value = item.get(key)
    # Not a number (NaN) fails the comparison.
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise ValueError(f'{key!r} is missing or not a percentage')
    return float(value)
