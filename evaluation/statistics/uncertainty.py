"""Intervals of all figures of a table, and which of them cannot be told from the best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.metrics.evidence.records import Evidence
from evaluation.results.result import Result
from evaluation.statistics.bootstrap import RESAMPLES, Interval, figure_interval, resample
from evaluation.statistics.loading import headline_metrics, load_evidence
from evaluation.statistics.randomization import MOST_SWAPS, PairedTest, paired_tests


@dataclass(frozen=True)
class Uncertainty:
    """Intervals of a result's figures, and what is needed to compare it with others.

    Attributes:
        path: file of the result.
        data: images, classes and truth; results can be compared where it is equal.
        evidence: per-image records.
        intervals: by metric.
        samples: by metric, figures on resampled images, (resamples,), percent.
        tests: results of paired tests so far, by the path of the other result.
    """

    path: Path
    data: tuple
    evidence: Evidence
    intervals: Mapping[str, Interval]
    samples: Mapping[str, np.ndarray]
    tests: dict[Path, dict[str, PairedTest | None]] = field(default_factory=dict, repr=False)

    def is_told_from(self, other: 'Uncertainty', metric: str) -> bool | None:
        """Whether two models differ by more than the choice of images explains; None if not known."""
        if self.data != other.data:
            return None
        if other.path not in self.tests:
            with tqdm(total=MOST_SWAPS, desc='swaps at most', leave=False, disable=None) as bar:
                shared = [name for name in self.intervals if name in other.intervals]
                self.tests[other.path] = paired_tests(
                    shared, [self.evidence], [other.evidence], bar.update
                )
        test = self.tests[other.path].get(metric)
        return None if test is None else test.is_told_apart

    def covers(self, metric: str, figure: float, step: float) -> bool:
        """Whether a figure from elsewhere, without per-image records, lies inside the interval.

        Args:
            metric: name of the metric.
            figure: in percent.
            step: to which the figure was rounded.
        """
        found = self.intervals[metric]
        return bool(found.low <= figure + step / 2 and figure - step / 2 <= found.high)


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
        path=result.path,
        data=(
            result.data_sha256,
            tuple(evidence.images.tolist()),
            tuple(np.asarray(evidence.classes).tolist()),
        ),
        evidence=evidence,
        intervals={
            name: figure_interval(name, whole[name], samples[name], len(evidence.images))
            for name in result.headline_metrics
        },
        samples=samples,
    )
