"""Confidence intervals: exact for shares of images, by bootstrap over images for other figures."""

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
# With fewer, the ends of an interval are close to the extremes.
LEAST_RESAMPLES = 200
MOST_RESAMPLES = 1_000_000
CONFIDENCE = 0.95
# In percent; larger than the rounding error of summing in a different order.
SAME = 1e-9


@dataclass(frozen=True)
class Interval:
    """A figure and the 95 % confidence interval of its expectation on as many images of this kind.

    Figures of new sets of as many images scatter around this expectation, in a range about 1.4 times
    as wide.

    Attributes:
        value: figure on the original images; NaN if undefined.
        low: lower end; NaN if the images do not determine an interval.
        high: upper end; NaN as for `low`.
        undefined: number of resamples in which the figure is undefined.
    """

    value: float
    low: float
    high: float
    undefined: int = 0


def check_resamples(resamples: int) -> None:
    """Check the number of resamples.

    Raises:
        UserError: the number is out of range.
    """
    if not LEAST_RESAMPLES <= resamples <= MOST_RESAMPLES:
        raise UserError(f'--resamples is {resamples}; give {LEAST_RESAMPLES} to {MOST_RESAMPLES}')


def draw(images: int, seed: int, number: int) -> np.ndarray:
    """Return how often each image is in a resample, (images,), int64; fixed by seed and number."""
    random = np.random.default_rng([seed, number])
    return np.bincount(random.integers(images, size=images), minlength=images)


def resample(
    metrics: Sequence[Measure],
    images: int,
    resamples: int,
    seed: int,
    on_progress: Callable[[], None] = lambda: None,
) -> tuple[list[dict[str, float]], list[dict[str, np.ndarray]]]:
    """Evaluate several models on the same resamples of their common images.

    Args:
        metrics: metric function of each model.
        images: number of images.
        resamples: number of resamples; each draws `images` images with replacement.
        seed: random seed.
        on_progress: called after each resample.

    Returns:
        Figures of each model on the original images, and on the resamples, (resamples,) each.
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
    """Return the percentile interval of the resamples, corrected for bias and for few images.

    A resample has fewer distinct images. AP uses the best precision at each recall or a higher one, so
    it rises as the number of images falls: the mean over resamples lies above the figure itself, by
    about half an interval on COCO val2017. So the interval is shifted by this bias (Efron and
    Tibshirani, chapters 10 and 13).

    Percentile intervals are too narrow by sqrt((n - 1) / n), and use the normal distribution instead of
    Student's. Adjusted percentile levels correct both (Hesterberg, arXiv 1411.5279, section 4.4).

    With too few images there is no interval: if the figure is undefined in more than 5 % of the
    resamples, or if all resamples give the same figure.

    Args:
        value: figure on the original images.
        samples: figures of the resamples; undefined ones (NaN) are ignored.
        images: number of images in each resample.
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
    """Return the fraction of resamples to cut off at each end of an interval; 0.025 for many images."""
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, images - 1)
    return float(stats.norm.cdf(-math.sqrt(images / (images - 1)) * quantile))


def figure_interval(metric: str, value: float, samples: np.ndarray, images: int) -> Interval:
    """Return the interval of a figure in percent, clipped to [0, 100].

    Args:
        metric: name of the metric.
        value: figure on the original images.
        samples: figures of the resamples, (resamples,); unused for a share of images.
        images: number of images in each resample.
    """
    if find_metric(metric).is_share:
        return share_interval(value, images)
    return clipped(interval(value, samples, images), 0)


def share_interval(value: float, images: int) -> Interval:
    """Return the exact interval of a share of images (Clopper and Pearson, 1934).

    The mean share over several runs varies less than that of one run, so its interval is conservative.

    Args:
        value: share in percent.
        images: number of images.
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
    """Return the interval of a difference in points; it includes zero if the models are not told apart.

    With few images the paired test is stricter than the interval, which is then extended to zero. Models
    with the same predictions have an interval of zero width.

    Args:
        metric: name of the metric.
        value: difference on the original images.
        samples: differences on the resamples, (resamples,); both models use the same resamples.
        sides: per-image records of both models, one for each seed.
        test: paired test of the two models by this metric.
    """
    if find_metric(metric).is_share:
        ours, theirs = (np.mean([run.right_images(metric) for run in side], axis=0) for side in sides)
        found = share_difference_interval(ours - theirs)
    elif not test.differing:
        return Interval(0.0, 0.0, 0.0, int(np.isnan(samples).sum()))
    else:
        found = clipped(interval(value, samples, len(sides[0][0].images)), -100)
    if test.is_told_apart or np.isnan(found.low):
        return found
    return Interval(found.value, min(found.low, 0.0), max(found.high, 0.0), found.undefined)


def share_difference_interval(differences: np.ndarray) -> Interval:
    """Return the interval of the mean difference of paired shares (Agresti and Min, 2005, section 3).

    Two pseudo-images are added, one on which the models agree and one split between them, so that the
    interval remains valid if no or all images differ.

    Args:
        differences: difference on each image, (N,), from -1 to 1.
    """
    images = len(differences)
    if not images:
        return Interval(np.nan, np.nan, np.nan)
    more = images + 2
    middle = differences.sum() / more
    deviation = np.sqrt((differences**2).sum() + 1 - more * middle**2) / more
    reach = stats.norm.ppf((1 + CONFIDENCE) / 2) * deviation
    found = Interval(*(100 * each for each in (differences.mean(), middle - reach, middle + reach)))
    return clipped(found, -100)


def clipped(found: Interval, least: float) -> Interval:
    """Return an interval within `least` and 100."""
    low, high = np.clip([found.low, found.high], least, 100)
    return Interval(float(found.value), float(low), float(high), found.undefined)
