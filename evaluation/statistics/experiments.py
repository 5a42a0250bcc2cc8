"""Runs that differ only in their seed, the spread of their figures, and names of models."""

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.results.result import Result
from evaluation.results.selection import setup


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
