"""Runs that differ in their seed alone, and the spread of their figures."""

import math
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
