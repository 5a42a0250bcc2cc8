"""Intervals of figures under distribution shift, by bootstrap over the images of each domain."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluation.results.result import Result
from evaluation.results.shifted import ShiftedRun
from evaluation.statistics.bootstrap import Interval, clipped, figure_interval, interval, resample
from evaluation.statistics.result_metrics import load_evidence, metric_of


@dataclass(frozen=True)
class ShiftedFigures:
    """Figures of a test under shift, in percent, each with its interval.

    Attributes:
        inside: figure in distribution.
        domains: figure of each domain, by name.
        mean: mean over the domains.
        effective_robustness: points above the figure that is expected under shift.
    """

    inside: Interval
    domains: Mapping[str, Interval]
    mean: Interval
    effective_robustness: Interval


def without_intervals(run: ShiftedRun) -> ShiftedFigures:
    """Return the figures as the results state them."""
    metric = run.suite.metric
    return ShiftedFigures(
        inside=_plain(run.inside.metrics.get(metric)),
        domains={name: _plain(result.metrics.get(metric)) for name, result in run.domains.items()},
        mean=_plain(run.mean),
        effective_robustness=_plain(run.effective_robustness),
    )


def _plain(value: float | None) -> Interval:
    return Interval(np.nan if value is None else value, np.nan, np.nan)


def with_intervals(run: ShiftedRun, resamples: int, seed: int = 0) -> ShiftedFigures:
    """Return the figures with intervals.

    The images of each test set are drawn on their own, since the sets have no image in common.

    Args:
        run: test under shift.
        resamples: number of resamples.
        seed: random seed; the same for all models, so that they share the draws of each domain.

    Raises:
        UserError: a result has no per-image records, or they do not match.
    """
    metric = run.suite.metric
    results = [run.inside, *run.domains.values()]
    drawn = [_drawn(each, metric, resamples, (seed, i)) for i, each in enumerate(results)]
    intervals = [
        figure_interval(metric, value, samples, result.images)
        for (value, samples), result in zip(drawn, results, strict=True)
    ]
    (inside, inside_samples), *others = drawn
    mean = float(np.mean([value for value, _ in others]))
    mean_samples = np.mean([samples for _, samples in others], axis=0)
    # The smallest set decides how much a percentile interval is too narrow.
    fewest = min(result.images for result in results)
    robustness = run.suite.effective_robustness
    return ShiftedFigures(
        inside=intervals[0],
        domains=dict(zip(run.domains, intervals[1:], strict=True)),
        mean=clipped(interval(mean, mean_samples, fewest), 0),
        effective_robustness=interval(
            robustness(mean, inside), robustness(mean_samples, inside_samples), fewest
        ),
    )


def _drawn(
    result: Result, metric: str, resamples: int, seed: tuple[int, int]
) -> tuple[float, np.ndarray]:
    """Return a figure on the images and on each resample, (resamples,), in percent."""
    evidence = load_evidence(result)
    measure = metric_of(evidence, [metric])
    number = int(np.random.SeedSequence(seed).generate_state(1)[0])
    (whole,), (samples,) = resample([measure], len(evidence.images), resamples, number)
    return whole[metric], samples[metric]
