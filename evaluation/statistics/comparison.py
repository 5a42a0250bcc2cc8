"""Uncertainty of figures, and comparison of two models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.metrics.records import Evidence, Measure
from evaluation.results.result import Result, shared_metrics
from evaluation.results.selection import Spread, distinct_names, spread
from evaluation.statistics.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    SAME,
    Interval,
    difference_interval,
    figure_interval,
    resample,
)
from evaluation.statistics.randomization import LEVEL, MOST_SWAPS, PairedTest, paired_tests
from evaluation.statistics.result_metrics import check_same_images, headline_metrics, load_evidence
from evaluation.tasks import TASKS, find_metric
from evaluation.utils.errors import UserError
from evaluation.utils.formats import fixed


@dataclass(frozen=True)
class Uncertainty:
    """Intervals of a result's figures, and the data needed to compare it with other results.

    Attributes:
        path: path of the result file.
        data: images, classes and digest of the annotations; results with equal data are comparable.
        evidence: per-image records.
        intervals: interval of each metric.
        samples: figures of each metric on the resamples, (resamples,), in percent.
        tests: cached paired tests, by path of the other result.
    """

    path: Path
    data: tuple
    evidence: Evidence
    intervals: Mapping[str, Interval]
    samples: Mapping[str, np.ndarray]
    tests: dict[Path, dict[str, PairedTest | None]] = field(default_factory=dict, repr=False)

    def is_told_from(self, other: 'Uncertainty', metric: str) -> bool | None:
        """Return whether two models differ by more than image sampling explains; None if unknown."""
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
        """Return whether an external figure, without per-image records, lies inside the interval.

        Args:
            metric: name of the metric.
            figure: external figure, in percent.
            step: rounding step of the figure.
        """
        found = self.intervals[metric]
        return bool(found.low <= figure + step / 2 and figure - step / 2 <= found.high)


def uncertainties(
    results: Sequence[Result],
    resamples: int = RESAMPLES,
    seed: int = 0,
    on_progress: Callable[[], None] = lambda: None,
) -> dict[Path, Uncertainty]:
    """Bootstrap every result over its images; return uncertainties by path of the result file.

    Args:
        results: results with evidence.
        resamples: number of resamples.
        seed: random seed, the same for all results.
        on_progress: called after each resample of each result.

    Raises:
        UserError: a result has no evidence, or its evidence does not match.
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


MOST_DIGITS = 4


@dataclass(frozen=True)
class Model:
    """One side of a comparison.

    Attributes:
        name: display name.
        spread: mean and standard deviation over seeds; None if undefined.
        interval: interval of the mean over seeds.
    """

    name: str
    spread: Spread | None
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Comparison of two models by one metric.

    Attributes:
        metric: name of the metric in `result.json`.
        a: first model.
        b: second model.
        difference: first minus second, in points.
        test: paired test of the two models; None if the metric is undefined.
        images: number of images.
        resamples: number of resamples used for the intervals.
        seed: random seed of the resamples; the test does not depend on it.
        cautions: other differences between the two, known or possible; one sentence each.
    """

    metric: str
    a: Model
    b: Model
    difference: Interval
    test: PairedTest | None
    images: int
    resamples: int
    seed: int
    cautions: tuple[str, ...] = ()

    @property
    def is_told_apart(self) -> bool:
        """Whether the difference is larger than chance explains."""
        return self.test is not None and self.test.is_told_apart

    @property
    def sentence(self) -> str:
        """The outcome as a sentence to quote."""
        word = find_metric(self.metric).words
        if self.test is None:
            return f'{word} is undefined on these images.'
        first, second, found = self._better_first()
        figures = ' and '.join(rounded(model.interval.value, self.metric) for model in (first, second))
        details = f'{figures}; {p_value_text(self.test)}; {self._interval_text(found)}'
        if self.is_told_apart:
            by = f'{rounded(found.value, self.metric)} points'
            return f'{first.name} has {by} higher {word} than {second.name} ({details}).'
        return f'{first.name} and {second.name} cannot be told apart by {word} ({details}).'

    def _interval_text(self, found: Interval) -> str:
        images = f'{self.images:,} image{"" if self.images == 1 else "s"}'
        if not self.test.differing:
            return f'the same predictions on {images}'
        if np.isnan(found.low):
            if self.images > 1 and found.undefined <= (1 - CONFIDENCE) * self.resamples:
                return f'no interval, since all resamples of {images} give the same difference'
            return f'{images} {"is" if self.images == 1 else "are"} too few for an interval'
        ends = ' to '.join(signed(end, self.metric) for end in (found.low, found.high))
        method = images if find_metric(self.metric).is_share else f'paired bootstrap of {images}'
        how = f'{100 * CONFIDENCE:.0f} % interval of the difference {ends}, {method}'
        if not found.undefined:
            return how
        return f'{how}, undefined in {found.undefined:,} of {self.resamples:,} resamples'

    def _better_first(self) -> tuple[Model, Model, Interval]:
        """Return the better model, the other one, and their difference in this order."""
        if self.difference.value >= 0:
            return self.a, self.b, self.difference
        found = self.difference
        turned = Interval(-found.value, -found.high, -found.low, found.undefined)
        return self.b, self.a, turned


def compare(
    a: Sequence[Result],
    b: Sequence[Result],
    resamples: int = RESAMPLES,
    seed: int = 0,
    on_progress: Callable[[], None] = lambda: None,
    on_swap: Callable[[], None] = lambda: None,
) -> list[Comparison]:
    """Compare two models by all metrics shown in tables of their task.

    Both are evaluated on the same resamples of the images, so that images that are hard for both models
    do not add noise to the difference. For a model with several seeds, the mean over them is compared.

    Args:
        a: results of one experiment of the first model, one for each seed.
        b: results of the second model.
        resamples: number of resamples for the intervals.
        seed: random seed of the resamples.
        on_progress: called after each resample.
        on_swap: called after each swap of the paired test, at most `MOST_SWAPS` times.

    Raises:
        UserError: the results differ in task or images, or have no evidence.
    """
    results = [*a, *b]
    if len({result.task for result in results}) > 1:
        raise UserError(
            f'{a[0].path} is a result of {a[0].task} and {b[0].path} of {b[0].task}; '
            'compare results of the same task'
        )
    evidence = [load_evidence(result) for result in results]
    check_same_images(results, evidence)
    metrics = [headline_metrics(results[0].task, found) for found in evidence]
    sides = [_mean(metrics[: len(a)]), _mean(metrics[len(a) :])]
    images = len(evidence[0].images)
    whole, samples = resample(sides, images, resamples, seed, on_progress)
    names = distinct_names(a, b)
    doubts = cautions(results)
    headlines = shared_metrics(results)
    records = evidence[: len(a)], evidence[len(a) :]
    tests = paired_tests(headlines, *records, on_swap)
    found = []
    for metric in headlines:
        (value, other), (drawn, others) = ([each[metric] for each in part] for part in (whole, samples))
        difference, test = Interval(np.nan, np.nan, np.nan), tests[metric]
        if test is not None:
            difference = difference_interval(metric, value - other, drawn - others, records, test)
        found.append(
            Comparison(
                metric=metric,
                a=Model(names[0], spread(a, metric), figure_interval(metric, value, drawn, images)),
                b=Model(names[1], spread(b, metric), figure_interval(metric, other, others, images)),
                difference=difference,
                test=test,
                images=images,
                resamples=resamples,
                seed=seed,
                cautions=doubts,
            )
        )
    return found


def cautions(results: Sequence[Result]) -> tuple[str, ...]:
    """Return one sentence for each known or possible difference other than the models themselves."""
    found = []
    if len({result.test_time_augmentation for result in results}) > 1:
        found.append(
            'One model was evaluated with test-time augmentation (TTA) and the other without, so the '
            'difference is not due to the models alone.'
        )
    recipes = {(result.recipe.name, result.variant) for result in results}
    if len(recipes) > 1:
        is_one = len({name for name, _ in recipes}) == 1
        names = sorted(
            ', '.join(filter(None, ('' if is_one else name, variant))) or 'a weight decay of its own'
            for name, variant in recipes
        )
        found.append(
            f'Their recipes differ ({" and ".join(names)}), so the difference is not due to the '
            'models alone.'
        )
    trainings = sorted({_training(result) for result in results})
    if len(trainings) > 1:
        found.append(
            f'Their trainings differ ({"; ".join(trainings)}), so the difference is not due to the '
            'models alone.'
        )
    if any(result.data_sha256 is None for result in results):
        found.append(
            'It is unknown whether both were evaluated on the same annotations: data.sha256 is null.'
        )
    if any(result.headline_metrics != results[0].headline_metrics for result in results):
        found.append(TASKS[results[0].task].optional.caution)
    return tuple(found)


def _training(result: Result) -> str:
    """Return what was trained, on which images, and for how long."""
    recipe, training = result.recipe, result.training
    parts = [recipe.setting or 'whole network, all training images']
    if training.total is not None:
        unit = {'iter': 'iterations', 'epoch': 'epochs'}.get(training.unit, training.unit)
        parts.append(f'{training.done} of {training.total} {unit}')
    return ', '.join(parts)


def _mean(metrics: Sequence[Measure]) -> Measure:
    """Return the mean over several runs, evaluated on the same images."""

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        figures = [metric(weights) for metric in metrics]
        return {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}

    return evaluate


def p_value_text(test: PairedTest) -> str:
    """Return `p = 0.03`, with enough digits to show its side of 5 %; `p ≤` if it is an upper bound."""
    if test.p_value < 0.001:
        return 'p < 0.001'
    text = f'{test.p_value:.1g}' if test.p_value < 0.01 else f'{test.p_value:.2f}'
    if float(text) == LEVEL and not test.is_told_apart:
        text = f'{test.p_value:.3f}'
    # No random swap gave the observed difference.
    is_bound = test.swaps and test.p_value * (1 + test.swaps) < 2
    return f'p {"≤" if is_bound else "="} {text}'


def rounded(value: float, metric: str) -> str:
    """Round a figure as tables do, with more digits if it would round to zero."""
    digits = find_metric(metric).digits
    while abs(value) >= SAME and digits < MOST_DIGITS and not float(fixed(value, digits)):
        digits += 1
    return fixed(value, digits)


def signed(value: float, metric: str) -> str:
    """Format a difference with its sign."""
    text = rounded(value, metric)
    return text.replace('-', '\N{MINUS SIGN}') if text.startswith('-') else f'+{text}'
