"""Published results to compare with: read the file of facts, and look up what fits a result.

`configs/published.json` lists what papers and repositories state, each with its source. A
figure of the *unified* architecture is of the very network that this suite trains; an *original*
one is of the network that the mixer was first published in, such as Swin or ConvNeXt.
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
    """The published figures, in percent, of one model by one recipe, from one source.

    Attributes:
        model: name of the contestant.
        recipe: name of the recipe.
        architecture: one of `ARCHITECTURES`.
        source: where the figures stand.
        figures: by their keys in the file, see `Metric.published`.
        checkpoint: address of the weights, where they were released.
        mixer: of the contestant, where it has one.
        scale: likewise.
        batch_size: images of a step, where it is not that of the recipe.
        parameters: of the whole model, where the source states them.
        flops: multiply-adds of the whole model, likewise.
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
            f"{file}: published results cannot be read ({error.strerror}); give another file, or 'none'"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f'{file}: not JSON ({error})') from error
    if type(data) is not list:
        raise UserError(f'{file}: not a list of published results; {PACKAGED.name} is an example')
    entries: dict[tuple[str, str, str], Entry] = {}
    for number, item in enumerate(data, start=1):
        try:
            entry = _parse(item)
            key = (entry.model, entry.recipe, entry.architecture)
            if key in entries:
                raise ValueError(f'{", ".join(key)} is stated twice')
        except ValueError as error:
            raise UserError(f'{file}: entry {number}: {error}') from error
        entries[key] = entry
    return list(entries.values())


def find_figure(entries: Sequence[Entry], result: Result, metric: str) -> Figure | None:
    """Return the published figure that `metric` of `result` can be compared with, if there is one.

    It must be of the same backbone and whole data set, and `obstacles` must find nothing. mIoU with
    test-time augmentation is compared with the multi-scale mIoU. The unified architecture is preferred
    to the original.
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
    """Return whether a result was trained by another variant of the recipe than a published figure.

    The unified backbones were published with the released recipes, the original networks with their own.
    """
    return figure.architecture == UNIFIED and result.variant == FAIR


def is_another_network(result: Result, figure: Figure) -> bool:
    """Return whether a figure is of the network that a mixer was first published in, not of ours."""
    is_own = not is_unified(result) or result.contestant.mixer is None
    return figure.architecture != UNIFIED and not is_own


def why_not_compared(entries: Sequence[Entry], result: Result) -> str | None:
    """Say why a result stands beside no published figure, although there is one of its backbone.

    None where it does, where nothing is published, and for a different data set.
    """
    own = entries_of(entries, result)
    if not is_published_data_set(result) or not own:
        return None
    found = min((obstacles(result, entry) for entry in own), key=len)
    if not is_whole_data_set(result):
        found = (f'{result.images:,} of {result.recipe.images:,} images', *found)
    return '; '.join(found) or None


def obstacles(result: Result, entry: Entry) -> tuple[str, ...]:
    """Say in what a result, as far as it tells, differs from how a published figure came about.

    A start or a batch size of the result that is not known is no obstacle; `is_recipe_unknown` says so.
    One that the recipe does not state is.
    """
    task, recipe = TASKS[result.task], result.recipe
    planned = result.max_iterations if recipe.epochs is None else result.max_epochs
    unit = 'iterations' if recipe.epochs is None else 'epochs'
    batch_size = entry.batch_size or recipe.batch_size
    found = [] if recipe.images else ['the recipe does not state how many images there are']
    if recipe.start is None or result.start not in (None, recipe.start):
        found.append(f'start {result.start or "not known"}, published {recipe.start or "not stated"}')
    if planned is None and not (recipe.any_length and recipe.length):
        found.append(f'length not known, published {recipe.length or "not stated"}')
    elif planned not in (None, recipe.epochs or recipe.iterations):
        found.append(f'{planned} {unit}, published {recipe.epochs or recipe.iterations or "not stated"}')
    if batch_size is None or result.batch_size not in (None, batch_size):
        own = 'not known' if result.batch_size is None else result.batch_size
        found.append(f'batch size {own}, published {batch_size or "not stated"}')
    if not any(find_metric(n).published_key(result.test_time_augmentation) for n in task.primary):
        found.append('test-time augmentation, published without')
    if task.optional and not {*task.primary} <= result.metrics.keys() and _has_optional(task, entry):
        found.append(task.optional.obstacle)
    return tuple(found)


def _has_optional(task: Task, entry: Entry) -> bool:
    """Whether the published model has the optional output of a task."""
    return any(find_metric(name).published in entry.figures for name in task.optional.metrics)


def is_recipe_unknown(result: Result) -> bool:
    """Return whether a result does not tell the start or the batch size of its training."""
    return result.start is None or result.batch_size is None


def entries_of(entries: Sequence[Entry], result: Result) -> list[Entry]:
    """What is published of the contestant of a result, by its recipe."""
    own, recipe = result.contestant, result.recipe.name
    found = [entry for entry in entries if (entry.model, entry.recipe) == (own.name, recipe)]
    return [entry for entry in found if is_unified(result) or entry.architecture != UNIFIED]


def is_unified(result: Result) -> bool:
    """Return whether a result is of the unified architecture, or of before that was told."""
    return result.contestant.family in (None, UNIFIED)


def is_published_data_set(result: Result) -> bool:
    """Return whether a result is of the data set that is published on."""
    return result.dataset == result.recipe.dataset


def is_whole_data_set(result: Result) -> bool:
    """Return whether a result is of the data set that is published on, with all its images."""
    return is_published_data_set(result) and result.recipe.images in (None, result.images)


def _parse(item: object) -> Entry:
    if type(item) is not dict:
        raise ValueError('not an object')
    # The key that files of before recipes had.
    item = {'recipe': item.get('task'), **item}
    for key in ('model', 'recipe', 'architecture', 'source'):
        if type(item.get(key)) is not str:
            raise ValueError(f'{key!r} is missing or not text')
    if item['architecture'] not in ARCHITECTURES:
        raise ValueError(f"'architecture' is none of {', '.join(ARCHITECTURES)}")
    keys = [key for task in TASKS.values() for metric in task.metrics for key in _keys_of(metric)]
    figures = {key: _percentage(item, key) for key in keys if key in item}
    if not figures:
        raise ValueError(f'no figure; state one of {", ".join(keys)}')
    texts = {key: item.get(key) for key in ('checkpoint', 'mixer', 'scale')}
    for key, value in texts.items():
        if value is not None and type(value) is not str:
            raise ValueError(f'{key!r} is not text')
    batch_size = item.get('batch_size')
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise ValueError("'batch_size' is not a whole number above 0")
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
