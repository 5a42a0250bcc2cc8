"""Figures from per-image records: intervals, costs of errors, differences between models."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby

import numpy as np
from tqdm import tqdm

from evaluation.metrics.calibration import Confidences
from evaluation.metrics.records import Evidence
from evaluation.report.ranking_section import ranking_section
from evaluation.report.reported_runs import Problems, ReportedRun, labels
from evaluation.report.training_curves import significant
from evaluation.results.published import Entry
from evaluation.results.selection import by_experiment
from evaluation.statistics.bootstrap import Interval, difference_interval, figure_interval
from evaluation.statistics.calibration_figures import calibration_intervals
from evaluation.statistics.comparison import (
    Comparison,
    Model,
    Uncertainty,
    cautions,
    signed,
    uncertainties,
)
from evaluation.statistics.error_analysis import error_costs
from evaluation.statistics.randomization import PairedTest, paired_tests
from evaluation.statistics.result_metrics import each_image_once, load_evidence
from evaluation.tasks import TASKS

SEED = 0


@dataclasses.dataclass(frozen=True)
class _Experiment:
    """A model with one or several seeds."""

    name: str
    runs: Sequence[ReportedRun]
    drawn: Sequence[Uncertainty]

    @property
    def evidence(self) -> list[Evidence]:
        """Per-image records, one per seed."""
        return [each.evidence for each in self.drawn]

    def figure(self, metric: str) -> tuple[float, np.ndarray]:
        """Return the mean over seeds, on the original images and on each resample, (resamples,)."""
        value = float(np.mean([each.intervals[metric].value for each in self.drawn]))
        return value, np.mean([each.samples[metric] for each in self.drawn], axis=0)


def differences(
    runs: Sequence[ReportedRun], drawn: Mapping[str, Uncertainty], resamples: int, seed: int
) -> list[dict]:
    """Compare all pairs of experiments, each by the mean over its seeds.

    Args:
        runs: runs of one group.
        drawn: figures on resampled images, by key of the run.
        resamples: number of resamples.
        seed: random seed of the resamples.

    Returns:
        One entry per pair and compared metric, with the better model first.
    """
    pairs = [
        pair
        for pair in combinations(_experiments(runs, drawn), 2)
        if len({each.data for side in pair for each in side.drawn}) == 1
    ]
    return [
        found
        for pair in tqdm(pairs, desc='pairs', unit='pair', disable=None if pairs else True)
        for metric, test in _tests(pair).items()
        if (found := _difference(pair, metric, test, resamples, seed))
    ]


def _tests(pair: tuple[_Experiment, _Experiment]) -> dict[str, PairedTest | None]:
    metrics = [
        metric
        for metric in TASKS[pair[0].runs[0].result.task].primary
        if all(metric in each.samples for side in pair for each in side.drawn)
    ]
    return paired_tests(metrics, pair[0].evidence, pair[1].evidence)


def _experiments(runs: Sequence[ReportedRun], drawn: Mapping[str, Uncertainty]) -> list[_Experiment]:
    """Pool runs that differ only in their seed."""
    by_path = {run.result.path: run for run in runs}
    pooled = [
        [by_path[result.path] for result in alike]
        for alike in by_experiment([run.result for run in runs])
    ]
    names = labels([dataclasses.replace(alike[0].result, seed=None) for alike in pooled])
    return [
        _Experiment(
            name=alike[0].label if len(alike) == 1 else f'{name} ({len(alike)} seeds)',
            runs=alike,
            drawn=[drawn[run.key] for run in alike],
        )
        for name, alike in zip(names, pooled, strict=True)
    ]


def _difference(
    pair: tuple[_Experiment, _Experiment],
    metric: str,
    test: PairedTest | None,
    resamples: int,
    seed: int,
) -> dict | None:
    """Return a difference; None if it or its interval is undefined."""
    if test is None:
        return None
    # The better model comes first, so that differences are not negative.
    one, other = sorted(pair, key=lambda experiment: -experiment.figure(metric)[0])
    (value, ours), (second, theirs) = one.figure(metric), other.figure(metric)
    images = one.runs[0].result.images
    difference = difference_interval(
        metric, value - second, ours - theirs, (one.evidence, other.evidence), test
    )
    if not all(map(math.isfinite, (difference.value, difference.low, difference.high))):
        return None
    comparison = Comparison(
        metric=metric,
        a=Model(one.name, None, figure_interval(metric, value, ours, images)),
        b=Model(other.name, None, figure_interval(metric, second, theirs, images)),
        difference=difference,
        test=test,
        images=images,
        resamples=resamples,
        seed=seed,
        cautions=cautions([run.result for experiment in pair for run in experiment.runs]),
    )
    return {
        'group': one.runs[0].group,
        'a': _side(one),
        'b': _side(other),
        'metric': metric,
        'difference': _by_end(difference, significant),
        'printed': _by_end(difference, lambda end: signed(end, metric)),
        'toldApart': bool(comparison.is_told_apart),
        'sentence': ' '.join((comparison.sentence, *comparison.cautions)),
    }


def _side(experiment: _Experiment) -> dict:
    return {'name': experiment.name, 'runs': [run.key for run in experiment.runs]}


def _by_end(found: Interval, write: Callable[[float], float | str]) -> dict[str, float | str]:
    return {'value': write(found.value), 'low': write(found.low), 'high': write(found.high)}


@dataclass
class ImageFindings:
    """Figures from per-image records, by key of the run; runs without records are omitted.

    Attributes:
        intervals: low and high end by metric, by run.
        errors: points of AP50 lost to each type of error, by kind of overlap, by run.
        calibration: error, interval and reliability diagram by name of the error, by run.
        differences: differences between models tested on the same images, with the better one first.
        ranking: ranking of the contestants that all columns share, see `ranking_section`; None without.
    """

    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    errors: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)
    calibration: dict[str, dict[str, dict]] = field(default_factory=dict)
    differences: list[dict] = field(default_factory=list)
    ranking: dict | None = None


def weigh(
    runs: Sequence[ReportedRun],
    resamples: int,
    problems: Problems,
    published: Sequence[Entry] = (),
) -> ImageFindings:
    """Evaluate the per-image records of all selected runs that have any.

    Args:
        runs: runs, sorted by group.
        resamples: number of resamples; 0 for no intervals.
        problems: collects missing or corrupt records.
        published: published figures, to rank beside ours.
    """
    found, drawn = ImageFindings(), {}
    chosen = [run for run in runs if run.is_selected and run.result.evidence is not None]
    for run in tqdm(chosen, desc='evidence', unit='run', disable=None if chosen else True):
        with problems.leaving_out(run.result.evidence.path):
            evidence = load_evidence(run.result)
            errors, calibration = _errors(run, evidence), _calibration(evidence, resamples)
            if resamples:
                drawn[run.key] = uncertainties([run.result], resamples, SEED)[run.result.path]
                found.intervals[run.key] = _intervals(drawn[run.key])
            if errors:
                found.errors[run.key] = errors
            if calibration:
                found.calibration[run.key] = calibration
    for _, members in groupby(chosen, key=lambda run: run.group):
        known = [run for run in members if run.key in drawn]
        found.differences += differences(known, drawn, resamples, SEED)
    known = [run for run in chosen if run.key in drawn]
    found.ranking = ranking_section(known, drawn, published, problems)
    return found


def _intervals(drawn: Uncertainty) -> dict[str, list[float]]:
    return {
        metric: [significant(each.low), significant(each.high)]
        for metric, each in drawn.intervals.items()
        if math.isfinite(each.low)
    }


def _calibration(evidence: Evidence, resamples: int) -> dict[str, dict]:
    """Return error, interval and bins with predictions, by name; undefined errors are omitted."""
    parts = evidence.calibration()
    return {
        name: {**_finite(found), 'bins': _bins(parts[name])}
        for name, found in calibration_intervals(evidence, resamples, SEED).items()
        if math.isfinite(found.value)
    }


def _finite(found: Interval) -> dict[str, float | None]:
    ends = {'value': found.value, 'low': found.low, 'high': found.high}
    return {name: value if math.isfinite(value) else None for name, value in ends.items()}


def _bins(part: Confidences) -> list[dict[str, float]]:
    table = part.diagram()
    return [
        {'share': count / table[:, 0].sum(), 'confidence': confidence, 'outcome': outcome}
        for count, confidence, outcome in table.tolist()
        if count
    ]


def _errors(run: ReportedRun, evidence: Evidence) -> dict[str, dict[str, float | None]]:
    """Return the costs of errors of a detector; nothing for other models."""
    overlaps = TASKS[run.result.task].overlaps
    if not overlaps:
        return {}
    once = each_image_once(evidence)
    return {
        kind: {
            name: float(value) if math.isfinite(value) else None
            for name, value in error_costs(evidence, kind)(once).items()
        }
        for kind in overlaps
        if kind in evidence.matches
    }
