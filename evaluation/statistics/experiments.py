"""Runs that differ in their seed alone, the spread of their figures, and names of models."""

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.results.result import Result
from evaluation.results.selection import setup


@dataclass(frozen=True)
class Spread:
    """Figures over seeds.

    Attributes:
        mean: in percent.
        deviation: standard deviation of a single run, n - 1 in the denominator; None of one run.
        runs: how many.
    """

    mean: float
    deviation: float | None
    runs: int


def by_experiment(results: Sequence[Result]) -> list[list[Result]]:
    """Put runs together that differ in their seed alone, in the order of the first of each.

    Of runs of equal seed the newest counts.
    """
    groups: dict[tuple, dict[int | None, Result]] = {}
    for result in results:
        seeds = groups.setdefault(experiment(result), {})
        known = seeds.get(result.seed)
        if known is None or result.created >= known.created:
            seeds[result.seed] = result
    return [list(seeds.values()) for seeds in groups.values()]


def experiment(result: Result) -> tuple:
    """What two runs have in common that differ in their seed alone."""
    return setup(result), result.training


def spread(results: Sequence[Result], metric: str) -> Spread | None:
    """Mean and standard deviation of a metric over runs; None where it is undefined in one."""
    values = [result.metrics.get(metric) for result in results]
    if not values or any(value is None or not math.isfinite(value) for value in values):
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def distinct_names(a: Sequence[Result], b: Sequence[Result]) -> tuple[str, str]:
    """Names of two models, with as much of start, augmentation, seeds and place as tells them apart.

    Args:
        a: results of the first model, of one experiment, a seed each.
        b: results of the second.
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
    """What all runs of a model share, and its seed or how many it has."""
    first = runs[0]
    seed = 'unknown seed' if first.seed is None else f'seed {first.seed}'
    return (
        first.start or 'unknown start',
        'with TTA' if first.test_time_augmentation else 'without TTA',
        seed if singles else f'{len(runs)} seed{"s" if len(runs) > 1 else ""}',
    )


def _place(runs: Sequence[Result]) -> str:
    """The file of a single run, the folder of several."""
    return os.path.commonpath([run.path for run in runs]) or '.'


def _with_details(name: str, details: Sequence[str]) -> str:
    return f'{name} ({", ".join(details)})' if details else name
