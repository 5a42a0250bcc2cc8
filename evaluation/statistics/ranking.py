"""Rank contestants in several columns: recipes, starts, protocols, shares of the data, seeds, metrics."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from evaluation.results.published import Entry, find_figure, is_another_network
from evaluation.results.result import Result
from evaluation.results.selection import by_experiment, select, table_of
from evaluation.statistics.bootstrap import CONFIDENCE
from evaluation.statistics.comparison import Uncertainty
from evaluation.statistics.randomization import LEVEL
from evaluation.statistics.rank_agreement import (
    LEAST_CONTESTANTS,
    Agreement,
    agreement,
    p_values,
    probabilities,
    rank_intervals,
    ranks,
    tau_b,
)
from evaluation.statistics.result_metrics import check_same_images
from evaluation.tasks import TASKS, find_metric
from evaluation.utils.errors import UserError, did_you_mean

# The variation between images is unknown for one.
LEAST_IMAGES = 2
# Facts of the training that contestants of a column should share, and their names in a note.
_SHARED_FACTS: tuple[tuple[str, Callable[[Result], object]], ...] = (
    ('batch size', lambda result: result.batch_size),
    ('mixed precision', lambda result: result.mixed_precision),
    ('training data', lambda result: result.training_data_sha256),
)
# Facts that distinguish columns, in titles.
_TITLE_FACTS: tuple[Callable[[Result], object], ...] = (
    lambda result: result.dataset,
    lambda result: result.recipe.name,
    lambda result: result.training.total and f'{result.training.total} {result.training.unit}s',
    lambda result: (
        result.recipe.fraction_seed is not None and f'images of seed {result.recipe.fraction_seed}'
    ),
    lambda result: result.start or 'start unknown',
    lambda result: result.variant and f'{result.variant} recipe',
    lambda result: 'TTA' if result.test_time_augmentation else 'no TTA',
)


@dataclass(frozen=True)
class Entries:
    """Results that compete in a column.

    Attributes:
        metric: name of the metric.
        runs: runs of each contestant, one for each seed, by name of the contestant.
        seed: seed of the runs if each seed is a column of its own.
        is_seed: whether each seed is a column of its own.
    """

    metric: str
    runs: Mapping[str, Sequence[Result]]
    seed: int | None = None
    is_seed: bool = False

    @property
    def first(self) -> Result:
        """Any of the results; they agree in all facts of the column."""
        return next(iter(self.runs.values()))[0]


@dataclass(frozen=True)
class RankedColumn:
    """Scores and ranks of all contestants under one condition.

    Attributes:
        title: what the column is, without facts that all columns share.
        metric: name of the metric.
        is_published: whether the scores are published figures, which have no intervals.
        scores: scores in percent, (contestants,); NaN where nothing is published.
        ranks: ranks, (contestants,), 1 for the best; 0 where nothing is published.
        low: best rank in the 95 % interval, (contestants,); equal to `ranks` for published figures.
        high: worst rank in the interval, (contestants,).
        better: probability that the row's contestant is better, (contestants, contestants).
        p_values: adjusted p-value of "the row's contestant is better", (contestants, contestants).
        images: number of images; None for published figures.
        seeds: largest number of seeds of a contestant; 0 for published figures.
        samples: scores on resamples, (resamples, contestants); None for published figures.
    """

    title: str
    metric: str
    is_published: bool
    scores: np.ndarray
    ranks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    better: np.ndarray
    p_values: np.ndarray
    images: int | None = None
    seeds: int = 0
    samples: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reversal:
    """A pair of contestants whose order differs between two columns by more than chance.

    Attributes:
        better: index of the contestant that is better in the first column and worse in the second.
        worse: index of the other contestant.
        p_value: larger one of the adjusted p-values of both columns.
    """

    better: int
    worse: int
    p_value: float


@dataclass(frozen=True)
class ColumnPair:
    """Agreement of two columns.

    Attributes:
        first: index of the first column.
        second: index of the second column.
        contestants: number of contestants that both columns have.
        agreement: tau-b with its intervals.
        reversals: pairs of contestants whose order reverses.
    """

    first: int
    second: int
    contestants: int
    agreement: Agreement
    reversals: tuple[Reversal, ...]


@dataclass(frozen=True)
class Ranking:
    """Contestants in all columns, and the agreement of every two columns.

    Attributes:
        contestants: names of the contestants in all columns, by their mean rank.
        columns: columns with our results, then columns of published figures.
        pairs: agreement of every two columns, except between published ones.
        left_out: names of contestants that a column lacks, with the title of the first such column.
        cautions: other differences between contestants of a column; one sentence each.
        resamples: number of resamples.
    """

    contestants: tuple[str, ...]
    columns: tuple[RankedColumn, ...]
    pairs: tuple[ColumnPair, ...]
    left_out: Mapping[str, str]
    cautions: tuple[str, ...]
    resamples: int


def finished(results: Sequence[Result]) -> list[Result]:
    """Return the results to rank: finished trainings, one evaluation for each setup and seed."""
    return [result for result in select(results, every=False) if result.training.finished]


def gather(
    results: Sequence[Result], metrics: Sequence[str] = (), by_seed: bool = False
) -> list[Entries]:
    """Group results into columns.

    Args:
        results: results from `finished`.
        metrics: names of the metrics, one column for each; by default the first primary metric of each
            task. Tasks without any of them are left out.
        by_seed: whether each seed is a column of its own.

    Raises:
        UserError: a metric is unknown, or a contestant has several experiments in a column.
    """
    _check_metrics(results, metrics)
    found: dict[tuple, dict[str, Sequence[Result]]] = {}
    for runs in by_experiment(results):
        for part in [[run] for run in runs] if by_seed else [runs]:
            own = part[0]
            for metric in _metrics_of(own, metrics):
                key = _condition(own), metric, own.seed if by_seed else None
                contestants = found.setdefault(key, {})
                if other := contestants.get(own.contestant.name):
                    raise UserError(
                        f'{other[0].path} and {own.path} are different experiments of '
                        f'{own.contestant.name} with the same recipe, length and start; give the '
                        'folder of one'
                    )
                contestants[own.contestant.name] = part
    return [
        Entries(metric, contestants, seed, by_seed) for (_, metric, seed), contestants in found.items()
    ]


def _check_metrics(results: Sequence[Result], metrics: Sequence[str]) -> None:
    known = {name for result in results for name in result.headline_metrics}
    for name in metrics:
        if name not in known:
            near = did_you_mean(name, known) or f'; choose from {", ".join(sorted(known))}'
            raise UserError(f'--metric {name!r} is a metric of no result{near}')


def _metrics_of(result: Result, metrics: Sequence[str]) -> list[str]:
    if not metrics:
        return [name for name in TASKS[result.task].primary if name in result.metrics][:1]
    return [name for name in dict.fromkeys(metrics) if name in result.headline_metrics]


def _condition(result: Result) -> tuple:
    """Return what distinguishes columns, apart from metric and seed.

    The digest of the annotations is left out: results of a column with different ones are an error.
    """
    return (
        table_of(result),
        result.recipe.name,
        result.recipe.fraction_seed,
        result.training.unit,
        result.training.total,
        result.start,
        result.variant,
        result.test_time_augmentation,
    )


def rank(
    columns: Sequence[Entries],
    drawn: Mapping[Path, Uncertainty],
    published: Sequence[Entry] = (),
    seed: int = 0,
) -> Ranking:
    """Rank the contestants that all columns have.

    Args:
        columns: columns from `gather`.
        drawn: figures on resampled images, by path of the result.
        published: published figures; those of a recipe form a column if at least three contestants
            have one.
        seed: random seed of the resampled seeds.

    Raises:
        UserError: fewer than three contestants are in all columns, results of a column were evaluated
            on different images or annotations, or a score is undefined.
    """
    titles = _titles(columns)
    names, left_out = _contestants(columns, titles)
    columns = [replace(each, runs={name: each.runs[name] for name in names}) for each in columns]
    for each in columns:
        results = [run for runs in each.runs.values() for run in runs]
        check_same_images(results, [drawn[result.path].evidence for result in results])
    ours = _ranked(columns, titles, drawn, seed)
    order = np.lexsort((names, np.mean([each.ranks for each in ours], axis=0)))
    ours = [_reordered(each, order) for each in ours]
    names = [names[index] for index in order]
    stated = _published_columns(columns, names, published)
    everything = [*ours, *stated]
    pairs = [
        _compare(first, second, everything)
        for first, second in combinations(range(len(everything)), 2)
        if first < len(ours)
    ]
    return Ranking(
        contestants=tuple(names),
        columns=tuple(everything),
        pairs=tuple(pair for pair in pairs if pair.contestants >= LEAST_CONTESTANTS),
        left_out=left_out,
        cautions=tuple(_cautions(columns, titles)),
        resamples=len(ours[0].samples),
    )


def _contestants(columns: Sequence[Entries], titles: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the contestants in all columns, and a column that each of the others lacks."""
    names = dict.fromkeys(name for each in columns for name in each.runs)
    lacking = {
        name: title
        for name in names
        for title, each in reversed([*zip(titles, columns, strict=True)])
        if name not in each.runs
    }
    found = [name for name in names if name not in lacking]
    if len(found) < LEAST_CONTESTANTS:
        fewest = min(range(len(columns)), key=lambda index: len(columns[index].runs))
        raise UserError(
            f'{len(found)} of {len(names)} contestants are in all {len(columns)} columns; a ranking '
            f'needs {LEAST_CONTESTANTS}. Give results of more contestants, or leave out a column: '
            f'{titles[fewest]!r} has only {", ".join(columns[fewest].runs)}'
        )
    return found, lacking


def _titles(columns: Sequence[Entries]) -> list[str]:
    """Return titles that distinguish the columns."""
    firsts = [each.first for each in columns]
    titles = [[first.recipe.heading] for first in firsts]
    for fact in _TITLE_FACTS:
        texts = [fact(first) for first in firsts]
        if len(set(texts)) > 1:
            for title, text in zip(titles, texts, strict=True):
                title += [str(text)] if text else []
    for title, each in zip(titles, columns, strict=True):
        title += [f'seed {each.seed}'] if each.is_seed else []
        title.append(find_metric(each.metric).words)
    return [', '.join(title) for title in titles]


def _ranked(
    columns: Sequence[Entries], titles: Sequence[str], drawn: Mapping[Path, Uncertainty], seed: int
) -> list[RankedColumn]:
    scores = np.array([_scores(each) for each in columns])
    samples = np.stack([*_samples(columns, drawn, seed)], axis=1)
    is_known = np.isfinite(samples).all((1, 2))
    if is_known.mean() < CONFIDENCE:
        raise UserError(
            f'a score is undefined in {np.count_nonzero(~is_known):,} of {len(samples):,} resamples; '
            'evaluate on more images'
        )
    samples = samples[is_known]
    # AP of a resample is higher on average, since it has fewer distinct images.
    samples = samples - samples.mean(0) + scores
    images = np.array([each.first.images for each in columns])
    tested = p_values(scores, samples, images)
    return [
        RankedColumn(
            titles[index],
            each.metric,
            False,
            scores[index],
            ranks(scores[index]),
            *rank_intervals(tested[index] <= LEVEL),
            probabilities(samples[:, index]),
            tested[index],
            each.first.images,
            max(map(len, each.runs.values())),
            samples[:, index],
        )
        for index, each in enumerate(columns)
    ]


def _scores(column: Entries) -> list[float]:
    """Return the mean score of each contestant over its seeds.

    Raises:
        UserError: a score is undefined.
    """
    for runs in column.runs.values():
        for run in runs:
            if run.metrics[column.metric] is None:
                raise UserError(
                    f'{run.path} has no {column.metric} (null), so it cannot be ranked; remove it, or '
                    'evaluate on images with ground truth'
                )
            if run.images < LEAST_IMAGES:
                raise UserError(
                    f'{run.path} was evaluated on {run.images} image; a ranking needs at least '
                    f'{LEAST_IMAGES}'
                )
    return [
        float(np.mean([run.metrics[column.metric] for run in runs])) for runs in column.runs.values()
    ]


def _samples(
    columns: Sequence[Entries], drawn: Mapping[Path, Uncertainty], seed: int
) -> Iterable[np.ndarray]:
    """Yield the scores of each column on resamples of images and seeds, (resamples, contestants).

    The same resamples of images are used for columns with the same data, and the same resamples of
    seeds for columns with the same runs; others are independent.
    """
    shares: dict[tuple, np.ndarray] = {}
    for column in columns:
        data = drawn[column.first.path].data
        found = []
        for runs in column.runs.values():
            figures = np.stack([drawn[run.path].samples[column.metric] for run in runs])
            key = tuple(run.path for run in runs)
            if key not in shares:
                random = np.random.default_rng([seed, len(shares)])
                shares[key] = _seed_shares(len(runs), figures.shape[1], random)
            found.append((shares[key] * figures).sum(0))
        # `uncertainties` draws equally for all data with as many images.
        digest = hashlib.sha256(repr(data).encode()).digest()
        order = np.random.default_rng([seed, *digest]).permutation(len(found[0]))
        yield np.stack(found, axis=1)[order]


def _seed_shares(seeds: int, resamples: int, random: np.random.Generator) -> np.ndarray:
    """Return the weight of each seed in the mean of each resample, (seeds, resamples).

    Resampled means of few seeds vary too little, by the factor (seeds - 1) / seeds in the variance,
    which the weights correct.
    """
    if seeds == 1:
        return np.ones((1, resamples))
    counts = random.multinomial(seeds, np.full(seeds, 1 / seeds), resamples).T
    return 1 / seeds + math.sqrt(seeds / (seeds - 1)) * (counts - 1) / seeds


def _reordered(column: RankedColumn, order: np.ndarray) -> RankedColumn:
    vectors = {name: getattr(column, name)[order] for name in ('scores', 'ranks', 'low', 'high')}
    matrices = {name: getattr(column, name)[np.ix_(order, order)] for name in ('better', 'p_values')}
    return replace(column, **vectors, **matrices, samples=column.samples[:, order])


def _published_columns(
    columns: Sequence[Entries], names: Sequence[str], published: Sequence[Entry]
) -> list[RankedColumn]:
    """Return a column for each recipe and metric with published figures of enough contestants."""
    found: dict[tuple, RankedColumn] = {}
    for each in columns:
        figures = [_published_figure(published, each.runs[name][0], each.metric) for name in names]
        scores = np.array([math.nan if value is None else value for value in figures])
        is_known = np.isfinite(scores)
        if is_known.sum() < LEAST_CONTESTANTS:
            continue
        own = np.zeros(len(scores), np.int64)
        own[is_known] = ranks(scores[is_known])
        title = f'{each.first.recipe.heading}, {find_metric(each.metric).words}, published'
        order = (scores[:, None] > scores[None]).astype(np.float64)
        even = 0.5 * ~((scores[:, None] > scores[None]) | (scores[:, None] < scores[None]))
        key = title, scores.tobytes()
        found[key] = RankedColumn(
            title, each.metric, True, scores, own, own, own, order + even, 1 - order
        )
    return list(found.values())


def _published_figure(published: Sequence[Entry], result: Result, metric: str) -> float | None:
    figure = find_figure(published, result, metric)
    return None if figure is None or is_another_network(result, figure) else figure.value


def _compare(first: int, second: int, columns: Sequence[RankedColumn]) -> ColumnPair:
    one, other = columns[first], columns[second]
    is_shared = np.isfinite(one.scores) & np.isfinite(other.scores)
    if other.is_published:
        found = Agreement(float(tau_b(one.scores[is_shared], other.scores[is_shared])))
    else:
        found = agreement(one.scores, other.scores, (one.samples, other.samples))
    chance = np.maximum(one.p_values, other.p_values.T)
    reversals = [
        Reversal(int(better), int(worse), float(chance[better, worse]))
        for better, worse in np.argwhere(chance <= LEVEL)
    ]
    return ColumnPair(
        first,
        second,
        int(is_shared.sum()),
        found,
        tuple(sorted(reversals, key=lambda each: each.p_value)),
    )


def _cautions(columns: Sequence[Entries], titles: Sequence[str]) -> Iterable[str]:
    for title, each in zip(titles, columns, strict=True):
        runs = [run for members in each.runs.values() for run in members]
        differing = [name for name, fact in _SHARED_FACTS if len(set(map(fact, runs))) > 1]
        if differing:
            yield f'{title}: contestants differ in {" and ".join(differing)}.'
