"""From raw times to the figures of a table: medians over rounds, of ratios within rounds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.benchmark.passes import Mode
from evaluation.benchmark.rounds import Measurement, Measurements

# The rates of hardware count multiplication and addition apart.
OPERATIONS_PER_FLOP = 2


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over rounds."""

    median: float
    lower: float
    upper: float


def spread_of(values: Sequence[float]) -> Spread:
    """Median and quartiles, interpolated linearly."""
    lower, median, upper = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return Spread(median, lower, upper)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Quotients within each round."""
    return [above / below for above, below in zip(numerators, denominators, strict=True)]


def operations(row: Measurement, found: Measurements, mode: Mode) -> int:
    """Operations of one pass over the whole batch: two for every multiply-add."""
    return OPERATIONS_PER_FLOP * row.cost.flops * found.size.batch * mode.flops_per_forward


def peak_rates(found: Measurements) -> list[float]:
    """Operations a second of the matrix product in each round."""
    return [OPERATIONS_PER_FLOP * found.matrix_side**3 / seconds for seconds in found.matrix_seconds]


def rates(row: Measurement, found: Measurements, mode: Mode) -> list[float]:
    """Operations a second of a row in each round."""
    return [operations(row, found, mode) / seconds for seconds in row.seconds]


def peak_fraction(row: Measurement, found: Measurements, mode: Mode) -> float:
    """What part of the peak a row reaches: the median of the ratios within rounds."""
    return spread_of(ratios(rates(row, found, mode), peak_rates(found))).median


def relative_speed(row: Measurement, reference: Measurement) -> float:
    """How many times as fast as another row: the median of the ratios within rounds."""
    return spread_of(ratios(reference.seconds, row.seconds)).median
