"""Published results to compare with: read the file of facts, and look up what fits a result.

The packaged `published.json` lists what papers and repositories state, each with its source. A
figure of the *unified* architecture is of the very network that this suite trains; an *original*
one is of the network that the mixer was first published in, such as Swin or ConvNeXt.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.config.recipe import FAIR
from evaluation.results.result import Result
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text

PACKAGED = Path(__file__).with_name('published.json')

# In order of preference.
ARCHITECTURES = ('unified', 'original')


@dataclass(frozen=True)
class Entry:
    """The published figures, in percent, of one model on one task, from one source.

    `checkpoint` is the address of its weights, where they were released. `parameters` and `flops`
    (multiply-adds) are of the whole model, where the source states them.
    """

    model: str
    task: str
    architecture: str
    source: str
    figures: Mapping[str, float]
    checkpoint: str | None = None
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
            key = (entry.model, entry.task, entry.architecture)
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
    if not is_whole_data_set(result) or obstacles(result):
        return None
    key = TASKS[result.task].published.figures.get((metric, result.test_time_augmentation))
    candidates = [
        Figure(entry.figures[key], entry.architecture, entry.source)
        for entry in _entries_of(entries, result)
        if key in entry.figures
    ]
    return min(candidates, key=lambda figure: ARCHITECTURES.index(figure.architecture), default=None)


def differs_in_recipe(result: Result, figure: Figure) -> bool:
    """Return whether a result was trained by another variant of the recipe than a published figure.

    The unified backbones were published with the released recipes, the original networks with their own.
    """
    return figure.architecture == 'unified' and result.recipe == FAIR


def why_not_compared(entries: Sequence[Entry], result: Result) -> str | None:
    """Say why a result stands beside no published figure, although there is one of its backbone.

    None where it does, where nothing is published, and for a different data set.
    """
    recipe = TASKS[result.task].published
    if not is_published_data_set(result) or not _entries_of(entries, result):
        return None
    found = obstacles(result)
    if result.images != recipe.images:
        found = (f'{result.images:,} of {recipe.images:,} images', *found)
    return '; '.join(found) or None


def obstacles(result: Result) -> tuple[str, ...]:
    """Say in what a result, as far as it tells, differs from how published figures came about.

    A start or a batch size that is not known is no obstacle; `is_recipe_unknown` says so.
    """
    task = TASKS[result.task]
    recipe = task.published
    planned = result.max_epochs if recipe.unit == 'epochs' else result.max_iterations
    batch_size = recipe.batch_sizes.get(result.mixer, recipe.batch_size)
    found = []
    if result.start not in (None, recipe.start):
        found.append(f'start {result.start}, published {recipe.start}')
    if planned is None and not recipe.any_length:
        found.append(f'length not known, published {recipe.length} {recipe.unit}')
    elif planned not in (None, recipe.length):
        found.append(f'{planned} {recipe.unit}, published {recipe.length}')
    if result.batch_size not in (None, batch_size):
        found.append(f'batch size {result.batch_size}, published {batch_size}')
    if not any((name, result.test_time_augmentation) in recipe.figures for name in task.primary):
        found.append('test-time augmentation, published without')
    if task.optional and not {*task.primary} <= result.metrics.keys():
        found.append(task.optional.obstacle)
    return tuple(found)


def is_recipe_unknown(result: Result) -> bool:
    """Return whether a result does not tell the start or the batch size of its training."""
    return result.start is None or result.batch_size is None


def _entries_of(entries: Sequence[Entry], result: Result) -> list[Entry]:
    name = TASKS[result.task].published.name
    return [entry for entry in entries if (entry.model, entry.task) == (result.backbone, name)]


def is_published_data_set(result: Result) -> bool:
    """Return whether a result is of the data set that is published on."""
    recipe = TASKS[result.task].published
    return recipe is not None and result.dataset == recipe.dataset


def is_whole_data_set(result: Result) -> bool:
    """Return whether a result is of the data set that is published on, with all its images."""
    return is_published_data_set(result) and result.images == TASKS[result.task].published.images


def _parse(item: object) -> Entry:
    if type(item) is not dict:
        raise ValueError('not an object')
    for key in ('model', 'task', 'architecture', 'source'):
        if type(item.get(key)) is not str:
            raise ValueError(f'{key!r} is missing or not text')
    if item['architecture'] not in ARCHITECTURES:
        raise ValueError(f"'architecture' is none of {', '.join(ARCHITECTURES)}")
    recipes = (task.published for task in TASKS.values() if task.published)
    figures = {
        key: _percentage(item, key)
        for recipe in recipes
        if recipe.name == item['task']
        for (_, is_augmented), key in recipe.figures.items()
        if key in item or not is_augmented
    }
    checkpoint = item.get('checkpoint')
    if checkpoint is not None and type(checkpoint) is not str:
        raise ValueError("'checkpoint' is not text")
    return Entry(
        item['model'],
        item['task'],
        item['architecture'],
        item['source'],
        figures,
        checkpoint,
        parameters=_scaled(item, 'params_million', 1e6),
        flops=_scaled(item, 'gflops', 1e9),
    )


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
