"""Read published results and find those that a result can be compared with.

`configs/published.json` lists figures from papers and repositories, each with its source. Figures of the
*unified* architecture are for exactly the networks that this suite trains. *Original* figures are for
any other network: those that a mixer was first published in, such as Swin or ConvNeXt, and the field.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.results.result import Result
from evaluation.tasks import FAIR, TASKS, Contestant, Metric, Recipe, Task, find_metric
from evaluation.utils.errors import UserError
from evaluation.utils.files import read_text

PACKAGED = Path(__file__).parents[2] / 'configs/published.json'

# In order of preference.
UNIFIED = 'unified'
ARCHITECTURES = (UNIFIED, 'original')
# Names of contestants in results of earlier versions, and their present ones.
FORMER_NAMES = {'r50': 'original_resnet50'}


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
        flops_size: height and width of the image for `flops`, if stated.
        family: networks that were published together, such as `swin`; None if not stated.
        multi_scale: whether training images had several sizes; None if as in the recipe.
        pretraining: what the backbone was trained on before; None if as in the recipe.
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
    flops_size: tuple[int, int] | None = None
    family: str | None = None
    multi_scale: bool | None = None
    pretraining: str | None = None

    @property
    def identity(self) -> tuple:
        """Facts that no two entries of a file share."""
        training = self.batch_size, self.multi_scale, self.pretraining
        return self.model, self.recipe, self.architecture, *training


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
    entries: dict[tuple, Entry] = {}
    for number, item in enumerate(data, start=1):
        try:
            entry = _parse(item)
            if entry.identity in entries:
                raise ValueError(f'duplicate of {", ".join(entry.identity[:3])}')
        except ValueError as error:
            raise UserError(f'{file}: entry {number}: {error}') from error
        entries[entry.identity] = entry
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
    found += _different_training(recipe, entry)
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


def _different_training(recipe: Recipe, entry: Entry) -> list[str]:
    """Return the differences between a recipe and the facts that an entry states about its training."""
    found = []
    if recipe.protocol is not None:
        found.append(f'protocol {recipe.protocol}, published fine-tuned')
    if recipe.fraction is not None:
        found.append(f'{100 * recipe.fraction:g} % of the training images, published all')
    if entry.multi_scale not in (None, recipe.multi_scale):
        scales = {True: 'multi-scale', False: 'single-scale', None: 'scales not stated'}
        found.append(
            f'training images: {scales[recipe.multi_scale]}, published {scales[entry.multi_scale]}'
        )
    if entry.pretraining not in (None, recipe.pretraining):
        own = recipe.pretraining or 'not stated'
        found.append(f'pretraining {own}, published {entry.pretraining}')
    return found


def comparable_entries(entries: Sequence[Entry], results: Sequence[Result]) -> list[Entry]:
    """Return the entries of any network that at least one of several results can be compared with.

    These are the figures on the same data set, with the same recipe and the same facts of training.
    """
    whole = [result for result in results if is_whole_data_set(result)]
    return [
        entry
        for entry in entries
        if any(entry.recipe == result.recipe.name and not obstacles(result, entry) for result in whole)
    ]


def comparable_flops(entry: Entry, recipe: Recipe) -> float | None:
    """Return the stated multiply-adds of an entry; None if they are for a different image size."""
    size = recipe.flops_size or TASKS[recipe.task].flops_size
    return entry.flops if entry.flops_size in (None, size) else None


def _has_optional(task: Task, entry: Entry) -> bool:
    """Return whether the published model has the optional output of a task."""
    return any(find_metric(name).published in entry.figures for name in task.optional.metrics)


def is_recipe_unknown(result: Result) -> bool:
    """Return whether the start or the batch size of a result's training is unknown."""
    return result.start is None or result.batch_size is None


def entries_of(entries: Sequence[Entry], result: Result) -> list[Entry]:
    """Return the published entries for the contestant and recipe of a result.

    For a result of the unified architecture, these include the original network of the same mixer and
    scale.
    """
    found = [entry for entry in entries if entry.recipe == result.recipe.name]
    return [entry for entry in found if is_about(entry, result.contestant)]


def is_about(entry: Entry, contestant: Contestant) -> bool:
    """Return whether an entry is for a contestant, or for the original network of its mixer."""
    is_own = contestant.family in (None, UNIFIED)
    if entry.architecture == UNIFIED:
        return is_own and entry.model == contestant.name
    if entry.model in (contestant.name, FORMER_NAMES.get(contestant.name)):
        return True
    # A unified network with a name of its own differs from that of its mixer and scale.
    kind = contestant.mixer, contestant.scale
    is_standard = None not in kind and contestant.name == '_'.join(kind)
    return is_own and is_standard and (entry.mixer, entry.scale) == kind


def is_of_network(entry: Entry, contestant: Contestant) -> bool:
    """Return whether an entry is for the very network of a contestant."""
    own = contestant.name
    return is_about(entry, contestant) and entry.model in (own, FORMER_NAMES.get(own))


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
    texts = {key: item.get(key) for key in ('checkpoint', 'mixer', 'scale', 'family', 'pretraining')}
    for key, value in texts.items():
        if value is not None and type(value) is not str:
            raise ValueError(f'{key!r} is not text')
    batch_size = item.get('batch_size')
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise ValueError("'batch_size' is not a positive whole number")
    if type(item.get('multi_scale')) not in (bool, type(None)):
        raise ValueError("'multi_scale' is not true or false")
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
        flops_size=_size(item),
        multi_scale=item.get('multi_scale'),
    )


def _size(item: dict) -> tuple[int, int] | None:
    """Return height and width of `gflops_input`, such as `800x1280`."""
    text = item.get('gflops_input')
    if text is None:
        return None
    if type(text) is not str or not re.fullmatch(r'[1-9]\d{0,4}x[1-9]\d{0,4}', text):
        raise ValueError("'gflops_input' is not height and width, such as '800x1280'")
    height, width = text.split('x')
    return int(height), int(width)


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
