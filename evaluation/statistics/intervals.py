"""Intervals of figures and differences: exact for shares of images, by the bootstrap for others."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from evaluation.metrics.evidence.records import Evidence
from evaluation.statistics.bootstrap import CONFIDENCE, SAME, Interval, interval
from evaluation.statistics.randomization import PairedTest
from evaluation.tasks import find_metric


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
