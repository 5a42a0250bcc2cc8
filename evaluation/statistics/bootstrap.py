"""The bootstrap over images (Efron and Tibshirani, An Introduction to the Bootstrap, 1993)."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.metrics.evidence.records import Measure
from evaluation.utils.errors import UserError

RESAMPLES = 1000
# Of fewer, the ends of an interval are hardly more than the extremes.
LEAST_RESAMPLES = 200
MOST_RESAMPLES = 1_000_000
CONFIDENCE = 0.95
# Percent; sums in a different order differ by less.
SAME = 1e-9


@dataclass(frozen=True)
class Interval:
    """A figure, and an interval of 95 % for the figure expected on as many images of the same kind.

    It is a confidence interval of the expected figure. What a fresh set of as many images would give
    scatters around that expectation, in a range about 1.4 times as wide.

    Attributes:
        value: on the images as they are; NaN where undefined.
        low: lower end; NaN where the images do not determine an interval.
        high: upper end, the same.
        undefined: in how many resamples the figure is undefined.
    """

    value: float
    low: float
    high: float
    undefined: int = 0


def check_resamples(resamples: int) -> None:
    """See that so many resamples can be drawn.

    Raises:
        UserError: they cannot.
    """
    if not LEAST_RESAMPLES <= resamples <= MOST_RESAMPLES:
        raise UserError(f'--resamples is {resamples}; give {LEAST_RESAMPLES} to {MOST_RESAMPLES}')


def draw(images: int, seed: int, number: int) -> np.ndarray:
    """How often each image is in a resample, (images,), int64; it depends on seed and number alone."""
    random = np.random.default_rng([seed, number])
    return np.bincount(random.integers(images, size=images), minlength=images)


def resample(
    metrics: Sequence[Measure],
    images: int,
    resamples: int,
    seed: int,
    on_progress: Callable[[], None] = lambda: None,
) -> tuple[list[dict[str, float]], list[dict[str, np.ndarray]]]:
    """Evaluate several models on the same resamples of the images that all were tested on.

    Args:
        metrics: of the models.
        images: how many there are.
        resamples: how many are drawn, each as large as the whole, with replacement.
        seed: of the draws.
        on_progress: called after each resample.

    Returns:
        Of each model its figures on the images as they are, and on the resamples, (resamples,).
    """
    whole = [metric(np.ones(images, np.int64)) for metric in metrics]

    def evaluate(number: int) -> list[dict[str, float]]:
        weights = draw(images, seed, number)
        figures = [metric(weights) for metric in metrics]
        on_progress()
        return figures

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        drawn = list(threads.map(evaluate, range(resamples)))
    samples = [
        {name: np.array([figures[model][name] for figures in drawn]) for name in whole[model]}
        for model in range(len(metrics))
    ]
    return whole, samples


def interval(value: float, samples: np.ndarray, images: int) -> Interval:
    """Percentiles of the resamples, moved by their bias and widened for few images.

    A resample has fewer distinct images. AP takes at each recall the best precision at this or a higher
    one, so it is the higher the fewer images there are: the mean of resamples lies above the figure
    itself, with as many as in COCO val2017 by about half an interval. So the interval is put around the
    figure (Efron and Tibshirani, chapters 10 and 13).

    Percentiles are too narrow by sqrt((n - 1) / n), and take the normal distribution for Student's.
    The level of the percentiles makes up for both (Hesterberg, arXiv 1411.5279, section 4.4).

    There is no interval where images are too few: where so many resamples have nothing to evaluate that
    the rest are not 95 % of them, or where all are alike.

    Args:
        value: on the images as they are.
        samples: figures of the resamples; those in which it is undefined are left out.
        images: how many each resample has.
    """
    known = samples[~np.isnan(samples)]
    undefined = len(samples) - len(known)
    is_rare = undefined > (1 - CONFIDENCE) * len(samples)
    if np.isnan(value) or is_rare or images < 2 or np.ptp(known) < SAME:
        return Interval(value, np.nan, np.nan, undefined)
    tail = 100 * expanded_tail(images)
    low, high = np.percentile(known, [tail, 100 - tail]) - (known.mean() - value)
    return Interval(value, float(low), float(high), undefined)


def expanded_tail(images: int) -> float:
    """Share of the resamples to leave out at each end of an interval; 2.5 % for many images."""
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, images - 1)
    return float(stats.norm.cdf(-math.sqrt(images / (images - 1)) * quantile))
