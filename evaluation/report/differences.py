"""How much one model is better than another, of those that were tested on the same images."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from tqdm import tqdm

from evaluation.metrics.evidence.base import Evidence
from evaluation.report.runs import Run, labels
from evaluation.report.training_curves import significant
from evaluation.statistics.bootstrap import Interval
from evaluation.statistics.comparison import Comparison, Model, cautions, signed
from evaluation.statistics.intervals import difference_interval, figure_interval
from evaluation.statistics.randomization import PairedTest, paired_tests
from evaluation.statistics.seeds import by_experiment
from evaluation.statistics.uncertainty import Uncertainty
from evaluation.tasks import TASKS


@dataclasses.dataclass(frozen=True)
class _Experiment:
    """A model, of one seed or several."""

    name: str
    runs: Sequence[Run]
    drawn: Sequence[Uncertainty]

    @property
    def evidence(self) -> list[Evidence]:
        """Per-image records, one for each seed."""
        return [each.evidence for each in self.drawn]

    def figure(self, metric: str) -> tuple[float, np.ndarray]:
        """The mean over seeds, of the images as they are and of each resample, (resamples,)."""
        value = float(np.mean([each.intervals[metric].value for each in self.drawn]))
        return value, np.mean([each.samples[metric] for each in self.drawn], axis=0)


def differences(
    runs: Sequence[Run], drawn: Mapping[str, Uncertainty], resamples: int, seed: int
) -> list[dict]:
    """Compare all pairs of experiments, of each the mean over its seeds.

    Args:
        runs: of one group.
        drawn: figures on resampled images, by the key of each run.
        resamples: how many were drawn.
        seed: of the draws.

    Returns:
        One for each pair and metric that is compared, the better model first.
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


def _experiments(runs: Sequence[Run], drawn: Mapping[str, Uncertainty]) -> list[_Experiment]:
    """Runs that differ in their seed alone, together."""
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
    """Return None where the difference or its interval is undefined."""
    if test is None:
        return None
    # The better one first, so that differences are not negative.
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
