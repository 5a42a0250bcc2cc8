"""Select, order and group the results of a table: by experiment, and contestants by size."""

import argparse
import math
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from evaluation.results.published import is_published_data_set
from evaluation.results.result import Result
from evaluation.tasks import TASKS, find_task
from evaluation.utils.errors import UserError, did_you_mean

# A contestant without a scale joins a size class if the ratio of their parameters is at most this.
MOST_RATIO = 1.5


@dataclass(frozen=True, order=True)
class SizeClass:
    """Contestants of similar size.

    Attributes:
        parameters: number of parameters that orders the classes; the geometric mean over a scale.
        name: name of the scale, or empty.
    """

    parameters: float
    name: str = ''


def select(results: Sequence[Result], every: bool) -> list[Result]:
    """Return the results that a table shows, in the order of its rows.

    Unless `every` is true, keep one result per setup and seed: the one furthest in training, and the
    newest of these.
    """
    results = in_order(results)
    if every:
        return results
    # Progress is the last sort key, so the last result of each setup is the furthest.
    return in_order([*{(setup(result), result.seed): result for result in results}.values()])


def setup(result: Result) -> tuple:
    """Return a key that all evaluations of an experiment share, regardless of seed and progress."""
    return (
        result.task,
        result.recipe.name,
        result.recipe.protocol,
        result.recipe.fraction,
        result.recipe.fraction_seed,
        result.contestant.name,
        result.config,
        result.config_sha256,
        result.dataset,
        result.data_sha256,
        result.images,
        result.test_time_augmentation,
        # Not the checkpoint name: if runs start from weights per seed, these have different names.
        result.start,
        result.training_data_sha256,
        result.batch_size,
        result.mixed_precision,
        result.learning_rate_scaled,
        result.variant,
    )


def table_of(result: Result) -> tuple:
    """Return the sort key of the table that a result belongs to."""
    order = list(TASKS).index(result.task)
    return order, not is_published_data_set(result), result.recipe.heading, result.dataset


def in_order(results: Sequence[Result]) -> list[Result]:
    """Sort results by table, then size, with baselines of a size first, then by mixer and progress."""
    ordered = []
    for _, members in groupby(sorted(results, key=table_of), key=table_of):
        rows = list(members)
        sizes = size_classes(rows)
        ordered += sorted(rows, key=lambda row, sizes=sizes: (sizes[row.path], *_row_order(row)))
    return ordered


def size_classes(results: Sequence[Result]) -> dict[Path, SizeClass]:
    """Return the size class of each result of a table, by path.

    Each scale is a class. A contestant without a scale joins the class with the nearest number of
    parameters if their ratio is at most `MOST_RATIO`. The others form new classes, starting with the
    smallest.

    Args:
        results: results of one table.
    """
    # Count each contestant once, regardless of its number of runs.
    scales: dict[str, dict[tuple, float]] = {}
    for result in results:
        if result.contestant.scale is not None:
            members = scales.setdefault(result.contestant.scale, {})
            members[result.contestant.name, result.total_parameters] = _log_parameters(result)
    classes = [
        SizeClass(math.exp(math.fsum(logs.values()) / len(logs)), name) for name, logs in scales.items()
    ]
    by_name = {each.name: each for each in classes}
    found = {}
    for result in sorted(results, key=lambda result: result.total_parameters):
        own = by_name.get(result.contestant.scale) or nearest_class(classes, result.total_parameters)
        if own is None:
            own = SizeClass(result.total_parameters)
            classes.append(own)
        found[result.path] = own
    return found


def scale_names(results: Iterable[Result]) -> list[str]:
    """Return the names of all scales, in the order of their smallest contestants."""
    smallest: dict[str, int] = {}
    for result in results:
        if (name := result.contestant.scale) is not None:
            smallest[name] = min(
                smallest.get(name, result.backbone_parameters), result.backbone_parameters
            )
    return sorted(smallest, key=smallest.get)


def nearest_class(classes: Iterable[SizeClass], parameters: float) -> SizeClass | None:
    """Return the class with the nearest number of parameters; None if none is near.

    Args:
        classes: size classes.
        parameters: number of parameters of a whole model.
    """

    def distance(each: SizeClass) -> float:
        return abs(math.log(max(each.parameters, 1)) - math.log(max(parameters, 1)))

    near = [each for each in classes if distance(each) <= math.log(MOST_RATIO)]
    # Prefer the smaller of equally near classes, so that the order of the results does not matter.
    return min(near, key=lambda each: (distance(each), each), default=None)


def _log_parameters(result: Result) -> float:
    return math.log(max(result.total_parameters, 1))


def _row_order(result: Result) -> tuple:
    own = result.contestant
    return (
        own.mixer is not None,
        own.mixer or '',
        own.name,
        result.config,
        result.variant or '',
        result.start == 'pretrained',
        result.test_time_augmentation,
        -1 if result.iteration is None else result.iteration,
        result.created,
        str(result.path),
    )


def add_choice(parser: argparse.ArgumentParser, when: str) -> None:
    """Add `--task` and `--recipe`.

    Args:
        parser: parser of a command that reads results.
        when: when the options are needed, or what happens without them; for the help.
    """
    parser.add_argument(
        '--task', type=_task_key, choices=TASKS, help=f'only results of this task; {when}'
    )
    parser.add_argument(
        '--recipe', metavar='NAME', help='only results of this recipe, such as mask_rcnn_coco_1x'
    )


def chosen(
    results: Sequence[Result], task: str | None, recipe: str | None, where: str = ''
) -> list[Result]:
    """Return the results of a task and a recipe, at least one.

    Args:
        results: at least one result.
        task: key of the task; None for every task.
        recipe: name of the recipe; None for every recipe.
        where: location of the results, for the message.

    Raises:
        UserError: there is no such result.
    """
    of_task = [result for result in results if task in (None, result.task)]
    if not of_task:
        known = ', '.join(sorted({result.task for result in results}))
        raise UserError(f'no result for {task}{where}; found only {known}')
    found = [result for result in of_task if recipe in (None, result.recipe.name)]
    if not found:
        known = sorted({result.recipe.name for result in of_task})
        near = did_you_mean(recipe, known)
        raise UserError(f'no result for {recipe}{where}{near or "; found only " + ", ".join(known)}')
    return found


def _task_key(text: str) -> str:
    """Return the current key of a task; keep an unknown key, which argparse rejects later."""
    task = find_task(text)
    return task.key if task else text


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over seeds.

    Attributes:
        mean: mean in percent.
        deviation: sample standard deviation (n - 1 in the denominator); None for a single run.
        runs: number of runs.
    """

    mean: float
    deviation: float | None
    runs: int


def by_experiment(results: Sequence[Result]) -> list[list[Result]]:
    """Group runs that differ only in their seed, in order of first appearance.

    If several runs of a group have the same seed, only the newest is kept.
    """
    groups: dict[tuple, dict[int | None, Result]] = {}
    for result in results:
        seeds = groups.setdefault(experiment(result), {})
        known = seeds.get(result.seed)
        if known is None or result.created >= known.created:
            seeds[result.seed] = result
    return [list(seeds.values()) for seeds in groups.values()]


def experiment(result: Result) -> tuple:
    """Return a key that is equal for runs that differ only in their seed."""
    return setup(result), result.training


def spread(results: Sequence[Result], metric: str) -> Spread | None:
    """Return mean and standard deviation of a metric over runs; None if it is undefined in any run."""
    values = [result.metrics.get(metric) for result in results]
    if not values or any(value is None or not math.isfinite(value) for value in values):
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def distinct_names(a: Sequence[Result], b: Sequence[Result]) -> tuple[str, str]:
    """Return names of two models, with start, augmentation, seeds or path added only to tell them apart.

    Args:
        a: results of one experiment of the first model, one for each seed.
        b: results of the second model.
    """
    plain = [runs[0].contestant.name for runs in (a, b)]
    if plain[0] == plain[1] and a[0].config != b[0].config:
        plain = [runs[0].config for runs in (a, b)]
    details = [_details(runs, singles=len(a) == len(b) == 1) for runs in (a, b)]
    differing = [index for index in range(len(details[0])) if details[0][index] != details[1][index]]
    one, other = (
        _with_details(name, [known[index] for index in differing])
        for name, known in zip(plain, details, strict=True)
    )
    if one != other:
        return one, other
    return _with_details(one, [_place(a)]), _with_details(other, [_place(b)])


def _details(runs: Sequence[Result], singles: bool) -> tuple[str, ...]:
    """Return start, augmentation, and seed or number of seeds of a model."""
    first = runs[0]
    seed = 'unknown seed' if first.seed is None else f'seed {first.seed}'
    return (
        first.start or 'unknown start',
        'with TTA' if first.test_time_augmentation else 'without TTA',
        seed if singles else f'{len(runs)} seed{"s" if len(runs) > 1 else ""}',
    )


def _place(runs: Sequence[Result]) -> str:
    """Return the file of a single run, or the common folder of several runs."""
    return os.path.commonpath([run.path for run in runs]) or '.'


def _with_details(name: str, details: Sequence[str]) -> str:
    return f'{name} ({", ".join(details)})' if details else name
