"""Intervals of calibration errors, by bootstrap over images."""

from collections.abc import Callable

import numpy as np

from evaluation.metrics.records import Evidence
from evaluation.statistics.bootstrap import Interval, clipped, interval, resample
from evaluation.statistics.result_metrics import each_image_once


def calibration_intervals(
    evidence: Evidence,
    resamples: int = 0,
    seed: int = 0,
    on_progress: Callable[[], None] = lambda: None,
) -> dict[str, Interval]:
    """Return the calibration errors of an evaluation in percent, by name; none without confidences.

    Args:
        evidence: per-image records.
        resamples: number of resamples for intervals; 0 for no intervals.
        seed: random seed.
        on_progress: called after each resample.
    """
    parts = evidence.calibration()

    def errors(weights: np.ndarray) -> dict[str, float]:
        return {name: part.error(weights) for name, part in parts.items()}

    if not parts or not resamples:
        once = errors(each_image_once(evidence))
        return {name: Interval(value, np.nan, np.nan) for name, value in once.items()}
    images = len(evidence.images)
    (whole,), (samples,) = resample([errors], images, resamples, seed, on_progress)
    return {name: clipped(interval(value, samples[name], images), 0) for name, value in whole.items()}
