"""Whether one model is better than another, as far as the images that both were tested on tell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.errors import UserError
from evaluation.results.result import HEADLINE_METRICS, Result
from evaluation.significance.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    interval,
    resample,
    share_interval,
)
from evaluation.significance.loading import check_same_images, headline_metrics, load_evidence
from evaluation.significance.metrics import Metric
from evaluation.significance.names import distinct_names
from evaluation.significance.seeds import Spread, spread
from evaluation.tables.headings import DIGITS

# As papers write them.
WORDS = {
    'box_AP': 'box AP',
    'box_AP50': 'box AP50',
    'box_AP75': 'box AP75',
    'mask_AP': 'mask AP',
    'mask_AP50': 'mask AP50',
    'mask_AP75': 'mask AP75',
    'mIoU': 'mIoU',
    'mAcc': 'mAcc',
    'aAcc': 'aAcc',
    'top1': 'top-1 accuracy',
    'top5': 'top-5 accuracy',
}
# As tables have them.
_DIGITS = {name: DIGITS[task] for task, names in HEADLINE_METRICS.items() for name in names}
MOST_DIGITS = 4


@dataclass(frozen=True)
class Model:
    """One side of a comparison.

    Attributes:
        name: for people.
        spread: over seeds.
        interval: of the mean over seeds, with other images of the same kind.
    """

    name: str
    spread: Spread | None
    interval: Interval


@dataclass(frozen=True)
class Comparison:
    """Two models by one metric.

    Attributes:
        metric: name in `result.json`.
        a: the first model.
        b: the second.
        difference: of the first from the second, in points.
        images: how many both were tested on.
        resamples: how many were drawn.
        seed: of the draws.
        cautions: what else the two may differ in, a sentence each.
    """

    metric: str
    a: Model
    b: Model
    difference: Interval
    images: int
    resamples: int
    seed: int
    cautions: tuple[str, ...] = ()

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        return self.difference.low > 0 or self.difference.high < 0

    @property
    def is_undecided(self) -> bool:
        """Whether the images are too few for an interval of the difference."""
        return np.isnan(self.difference.low) and not np.isnan(self.difference.value)

    @property
    def sentence(self) -> str:
        """The outcome in words that can be quoted."""
        word = WORDS[self.metric]
        if np.isnan(self.difference.value):
            return f'{word} is undefined on these images.'
        first, second, found = self._better_first()
        figures = ' and '.join(rounded(model.interval.value, self.metric) for model in (first, second))
        if self.is_undecided:
            return (
                f'{self._images} {"is" if self.images == 1 else "are"} too few to tell {first.name} and '
                f'{second.name} apart by {word} ({figures}).'
            )
        ends = ' to '.join(signed(end, self.metric) for end in (found.low, found.high))
        where = f'{100 * CONFIDENCE:.0f} % interval of the difference {ends}, {self._how}'
        if self.is_told_apart:
            by = f'{rounded(found.value, self.metric)} points'
            return f'{first.name} has {by} more {word} than {second.name} ({figures}; {where}).'
        return f'{first.name} and {second.name} cannot be told apart by {word} ({figures}; {where}).'

    @property
    def _images(self) -> str:
        return f'{self.images:,} image{"" if self.images == 1 else "s"}'

    @property
    def _how(self) -> str:
        how, undefined = f'paired bootstrap of {self._images}', self.difference.undefined
        if not undefined:
            return how
        return f'{how}, undefined in {undefined:,} of {self.resamples:,} resamples'

    def _better_first(self) -> tuple[Model, Model, Interval]:
        """The model of the higher figure, the other, and the difference in this order."""
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
) -> list[Comparison]:
    """Compare two models by all metrics that tables show of their task.

    Both are evaluated on the same resamples of the images, so that what makes an image hard for both
    does not blur the difference. Of a model with several seeds the mean over them is compared.

    Args:
        a: results of the first model, of one experiment, a seed each.
        b: results of the second.
        resamples: how many to draw.
        seed: of the draws.
        on_progress: called after each resample.

    Raises:
        UserError: they are of other tasks or images, or have no evidence.
    """
    results = [*a, *b]
    if len({result.task for result in results}) > 1:
        raise UserError(f'{a[0].path} is of {a[0].task} and {b[0].path} of {b[0].task}; compare like')
    evidence = [load_evidence(result) for result in results]
    check_same_images(results, evidence)
    metrics = [headline_metrics(results[0].task, found) for found in evidence]
    sides = [_mean(metrics[: len(a)]), _mean(metrics[len(a) :])]
    images = len(evidence[0].images)
    whole, samples = resample(sides, images, resamples, seed, on_progress)
    names = distinct_names(a, b)
    doubts = cautions(results)
    return [
        _comparison(metric, (a, b), names, whole, samples, seed, doubts)
        for metric in HEADLINE_METRICS[a[0].task]
    ]


def cautions(results: Sequence[Result]) -> tuple[str, ...]:
    """What models that are compared differ in, or may, beside the models; a sentence each."""
    found = []
    if len({result.test_time_augmentation for result in results}) > 1:
        found.append(
            'One was tested with test-time augmentation (TTA) and the other without: the difference is '
            'not one of the models alone.'
        )
    recipes = {result.recipe or 'unknown' for result in results}
    if len(recipes) > 1:
        found.append(
            f'Their recipes differ ({" and ".join(sorted(recipes))}): the difference is not one of the '
            'models alone.'
        )
    if any(result.data_sha256 is None for result in results):
        found.append(
            'Whether both were tested on the same annotations is not known: their data.sha256 is null.'
        )
    return tuple(found)


def _mean(metrics: Sequence[Metric]) -> Metric:
    """The mean over several runs, each on the same images."""

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        figures = [metric(weights) for metric in metrics]
        return {name: float(np.mean([each[name] for each in figures])) for name in figures[0]}

    return evaluate


def _comparison(
    metric: str,
    results: tuple[Sequence[Result], Sequence[Result]],
    names: tuple[str, str],
    whole: list[dict[str, float]],
    samples: list[dict[str, np.ndarray]],
    seed: int,
    doubts: tuple[str, ...],
) -> Comparison:
    values = [figures[metric] for figures in whole]
    drawn = [figures[metric] for figures in samples]
    models = [
        Model(name, spread(runs, metric), share_interval(value, sample))
        for name, runs, value, sample in zip(names, results, values, drawn, strict=True)
    ]
    return Comparison(
        metric=metric,
        a=models[0],
        b=models[1],
        difference=interval(values[0] - values[1], drawn[0] - drawn[1]),
        images=results[0][0].images,
        resamples=len(drawn[0]),
        seed=seed,
        cautions=doubts,
    )


def rounded(value: float, metric: str) -> str:
    """A figure with as many digits as tables have, and more where zero would be left."""
    digits = _DIGITS[metric]
    while value and digits < MOST_DIGITS and not float(f'{value:.{digits}f}'):
        digits += 1
    return f'{value:.{digits}f}'


def signed(value: float, metric: str) -> str:
    """A difference with its sign."""
    text = rounded(value, metric)
    return text.replace('-', '\N{MINUS SIGN}') if text.startswith('-') else f'+{text}'
