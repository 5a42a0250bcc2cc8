"""Intervals: exact ones of shares, and by resampling the images for other figures."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.metrics.records import Evidence, Measure
from evaluation.statistics.randomization import PairedTest
from evaluation.tasks import find_metric
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


def figure_interval(metric: str, value: float, samples: np.ndarray, images: int) -> Interval:
    """Interval of a figure in percent, which lies between 0 and 100 on any images.

    Args:
        metric: name of the metric.
        value: the figure on the images as they are.
        samples: figures of the resamples, (resamples,); not needed for a share of images.
        images: how many each resample has.
    """
    if find_metric(metric).is_share:
        return share_interval(value, images)
    return _clipped(interval(value, samples, images), 0)


def share_interval(value: float, images: int) -> Interval:
    """Exact interval of a share of images (Clopper and Pearson, 1934).

    The mean share of several runs varies less than that of one: its interval is rather too wide.

    Args:
        value: percent.
        images: how many.
    """
    if np.isnan(value) or not images:
        return Interval(value, np.nan, np.nan)
    right, tail = images * value / 100, (1 - CONFIDENCE) / 2
    wrong = images - right
    low = 100 * stats.beta.ppf(tail, right, wrong + 1) if right > SAME else 0.0
    high = 100 * stats.beta.ppf(1 - tail, right + 1, wrong) if wrong > SAME else 100.0
    return Interval(value, float(low), float(high))


def difference_interval(
    metric: str,
    value: float,
    samples: np.ndarray,
    sides: tuple[Sequence[Evidence], Sequence[Evidence]],
    test: PairedTest,
) -> Interval:
    """Interval of a difference in points, which includes zero where two models are not told apart.

    On few images the paired test asks for more than the interval. Between models with the same
    predictions there is no difference.

    Args:
        metric: name of the metric.
        value: difference on the images as they are.
        samples: differences on the resamples, of both models on the same one, (resamples,).
        sides: per-image records of both models, one for each seed.
        test: of the two models by this metric.
    """
    if find_metric(metric).is_share:
        ours, theirs = (np.mean([run.right_images(metric) for run in side], axis=0) for side in sides)
        found = share_difference_interval(ours - theirs)
    elif not test.differing:
        return Interval(0.0, 0.0, 0.0, int(np.isnan(samples).sum()))
    else:
        found = _clipped(interval(value, samples, len(sides[0][0].images)), -100)
    if test.is_told_apart or np.isnan(found.low):
        return found
    return Interval(found.value, min(found.low, 0.0), max(found.high, 0.0), found.undefined)


def share_difference_interval(differences: np.ndarray) -> Interval:
    """Interval of the mean difference of paired shares (Agresti and Min, 2005, section 3).

    Two images are added: one that both models have right or wrong, and one that they share. So the
    interval is sound where no or all images differ.

    Args:
        differences: of each image, (N,), from -1 to 1.
    """
    images = len(differences)
    if not images:
        return Interval(np.nan, np.nan, np.nan)
    more = images + 2
    middle = differences.sum() / more
    deviation = np.sqrt((differences**2).sum() + 1 - more * middle**2) / more
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) * deviation
    found = Interval(*(100 * each for each in (differences.mean(), middle - reach, middle + reach)))
    return _clipped(found, -100)


def _clipped(found: Interval, least: float) -> Interval:
    low, high = np.clip([found.low, found.high], least, 100)
    return Interval(float(found.value), float(low), float(high), found.undefined)
