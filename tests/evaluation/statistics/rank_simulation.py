"""Simulation of columns of scores, to measure how often intervals of Kendall's tau cover the truth.

    python -m tests.evaluation.statistics.rank_simulation            # print the table
    python -m tests.evaluation.statistics.rank_simulation --write    # also write it to docs/ranking.md

True scores are drawn for both columns, and measured with normal noise, or by the accuracy of classifiers
on images, which are resampled. The interval for these contestants
should cover tau of their true scores. The interval for contestants of this kind should cover tau of the
population from which the true scores are drawn: 1 for two columns from one population, and 0 for
independent columns.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.statistics.rank_agreement import Agreement, agreement, p_values, tau_b
from tests.evaluation.statistics.simulation import write_table

DOCS = Path(__file__).parents[3] / 'docs' / 'ranking.md'
TRIALS = 200
RESAMPLES = 400
CONTESTANTS = (5, 20)
# Standard deviation of the true scores between contestants, in standard errors of a score.
SPREADS = (1, 3, 10)
# Number of images that the normal noise stands for.
IMAGES = 5000
# Classifiers: number of images, and accuracy in the middle.
PHOTOGRAPHS = 500
ACCURACY = 0.7
# Correlation of the true scores of related columns; tau of the population is 2 / pi arcsin of it.
CORRELATION = 0.8
Columns = Sequence[np.ndarray]


class Truth(Enum):
    """Relation of the true scores of both columns, and tau of the population."""

    SAME = 'same scores', 1.0
    ORDER = 'same order, unequal gaps', 1.0
    RELATED = f'correlation {CORRELATION}', 2 / math.pi * math.asin(CORRELATION)
    INDEPENDENT = 'independent', 0.0

    def __init__(self, words: str, tau: float) -> None:
        self.words, self.tau = words, tau


@dataclass(frozen=True)
class Trial:
    """Outcome of one trial.

    Attributes:
        agreement: tau of the measured scores, with intervals.
        truth: tau of the true scores.
        kind: tau of the population.
        false_reversals: number of reversals that are named but not true.
    """

    agreement: Agreement
    truth: float
    kind: float
    false_reversals: int

    @property
    def covers_these(self) -> bool:
        return self.agreement.low - 1e-9 <= self.truth <= self.agreement.high + 1e-9

    @property
    def covers_kind(self) -> bool:
        # Values of tau are tested in steps of 0.05.
        return self.agreement.kind_low - 0.025 <= self.kind <= self.agreement.kind_high + 0.025


def column_pair(
    truth: Truth, contestants: int, spread: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the true scores of two columns, (contestants,) each."""
    first, other = random.standard_normal((2, contestants))
    second = {
        Truth.SAME: first,
        # Standard deviation of a log-normal variable.
        Truth.ORDER: np.exp(first) / math.sqrt(math.e * (math.e - 1)),
        Truth.RELATED: CORRELATION * first + math.sqrt(1 - CORRELATION**2) * other,
        Truth.INDEPENDENT: other,
    }[truth]
    return spread * first, spread * second


def with_noise(true: Columns, random: np.random.Generator) -> tuple[Columns, Columns]:
    """Return scores with normal noise, (contestants,), and on resamples, (resamples, contestants)."""
    scores = [each + random.standard_normal(len(each)) for each in true]
    return scores, [each + random.standard_normal((RESAMPLES, len(each))) for each in scores]


def on_images(true: Columns, random: np.random.Generator) -> tuple[Columns, Columns]:
    """Return accuracies of classifiers on images of each column, and on resampled images, in percent.

    Half of the images are equally hard for all classifiers.

    Args:
        true: true scores of each column, (contestants,), in standard errors of an accuracy.
        random: random generator.
    """
    slope = ACCURACY * (1 - ACCURACY)
    error = math.sqrt(slope / PHOTOGRAPHS)
    scores, samples = [], []
    for each in true:
        accuracy = 1 / (1 + np.exp(-(math.log(ACCURACY / (1 - ACCURACY)) + each * error / slope)))
        shared, own = random.random(PHOTOGRAPHS), random.random((len(each), PHOTOGRAPHS))
        is_shared = random.random(PHOTOGRAPHS) < 0.5
        right = np.where(is_shared, shared, own) < accuracy[:, None]
        drawn = random.multinomial(PHOTOGRAPHS, np.full(PHOTOGRAPHS, 1 / PHOTOGRAPHS), RESAMPLES)
        scores.append(100 * right.mean(1))
        samples.append(100 * drawn @ right.T / PHOTOGRAPHS)
    return scores, samples


def trial(
    truth: Truth, contestants: int, spread: float, number: int, is_classified: bool = False
) -> Trial:
    random = np.random.default_rng([contestants, number])
    true = column_pair(truth, contestants, spread, random)
    scores, samples = (on_images if is_classified else with_noise)(true, random)
    found = agreement(*scores, tuple(samples))
    images = PHOTOGRAPHS if is_classified else IMAGES
    tested = p_values(np.stack(scores), np.stack(samples, axis=1), np.array([images, images]))
    named = np.maximum(tested[0], tested[1].T) <= 0.05
    is_true = (true[0][:, None] > true[0]) & (true[1][:, None] < true[1])
    return Trial(found, float(tau_b(*true)), truth.tau, int((named & ~is_true).sum()))


def row(truth: Truth, contestants: int, spread: float, is_classified: bool, trials: int) -> str:
    found = [trial(truth, contestants, spread, number, is_classified) for number in range(trials)]
    agreements = [each.agreement for each in found]
    cells = [
        f'{truth.words}, top-1 of {PHOTOGRAPHS} images' if is_classified else truth.words,
        f'{contestants}',
        f'{spread}',
        f'{truth.tau:.2f}',
        f'{np.mean([each.tau for each in agreements]):.2f}',
        f'{100 * np.mean([each.covers_these for each in found]):.1f} %',
        f'{np.mean([each.high - each.low for each in agreements]):.2f}',
        f'{100 * np.mean([each.covers_kind for each in found]):.1f} %',
        f'{np.mean([each.kind_high - each.kind_low for each in agreements]):.2f}',
        f'{100 * np.mean([each.false_reversals > 0 for each in found]):.1f} %',
    ]
    return f'| {" | ".join(cells)} |'


def table(trials: int) -> str:
    rows = [
        '| True scores | Contestants | Spread | True tau | Mean measured tau | Coverage, these '
        '| Width | Coverage, of this kind | Width | False reversals |',
        '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
    ]
    settings = [(t, n, spread, False) for t in Truth for n in CONTESTANTS for spread in SPREADS]
    settings += [(t, n, 3, True) for t in (Truth.SAME, Truth.INDEPENDENT) for n in CONTESTANTS]
    rows += [row(*setting, trials) for setting in tqdm(settings, desc='settings', disable=None)]
    return '\n'.join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--trials', type=int, default=TRIALS, help='trials per row (default %(default)s)'
    )
    parser.add_argument('--write', action='store_true', help=f'write the table to {DOCS.name}')
    arguments = parser.parse_args()
    found = table(arguments.trials)
    print(found)
    if arguments.write:
        write_table(DOCS, found)


if __name__ == '__main__':
    main()
