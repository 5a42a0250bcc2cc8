"""Intervals of all figures of a table, and which of them cannot be told from the best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.results.result import Result
from evaluation.significance.bootstrap import (
    RESAMPLES,
    Interval,
    interval,
    resample,
    share_interval,
)
from evaluation.significance.loading import headline_metrics, load_evidence


@dataclass(frozen=True)
class Uncertainty:
    """Figures of a result on resampled images; those of equal draws can be compared in pairs.

    Attributes:
        draws: what the resamples depend on: images and truth; equal where the draws are.
        intervals: by metric.
        samples: by metric, (resamples,), percent.
    """

    draws: tuple
    intervals: Mapping[str, Interval]
    samples: Mapping[str, np.ndarray]

    def is_told_from(self, other: 'Uncertainty', metric: str) -> bool | None:
        """Whether two models differ by more than the choice of images explains; None if not known."""
        if self.draws != other.draws:
            return None
        difference = self.intervals[metric].value - other.intervals[metric].value
        found = interval(difference, self.samples[metric] - other.samples[metric])
        return bool(found.low > 0 or found.high < 0)


def uncertainties(
    results: Sequence[Result],
    resamples: int = RESAMPLES,
    seed: int = 0,
    on_progress: Callable[[], None] = lambda: None,
) -> dict[Path, Uncertainty]:
    """Resample the images of every result; by the path of its file.

    Args:
        results: each with evidence.
        resamples: how many to draw.
        seed: of the draws, the same for all.
        on_progress: called after each resample of each result.

    Raises:
        UserError: a result has no evidence, or one that is not its own.
    """
    return {result.path: _uncertainty(result, resamples, seed, on_progress) for result in results}


def _uncertainty(
    result: Result, resamples: int, seed: int, on_progress: Callable[[], None]
) -> Uncertainty:
    evidence = load_evidence(result)
    metric = headline_metrics(result.task, evidence)
    (whole,), (samples,) = resample([metric], len(evidence.images), resamples, seed, on_progress)
    return Uncertainty(
        draws=(result.data_sha256, tuple(evidence.images.tolist()), resamples, seed),
        intervals={name: share_interval(whole[name], samples[name]) for name in result.headline_metrics},
        samples=samples,
    )
