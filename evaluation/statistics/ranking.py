"""Rank contestants in several columns: recipes, starts, protocols, shares of data, seeds, metrics."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from tqdm import tqdm

from evaluation.results.published import Entry, find_figure, is_another_network
from evaluation.results.result import Result
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
from evaluation.statistics.ranking_columns import Contest, Entries
from evaluation.tasks import find_metric
from evaluation.utils.errors import UserError

# Facts of the training that contestants of a column should share, and their names in a note.
_SHARED_FACTS: tuple[tuple[str, Callable[[Result], object]], ...] = (
    ('batch size', lambda result: result.batch_size),
    ('mixed precision', lambda result: result.mixed_precision),
    ('training data', lambda result: result.training_data_sha256),
)


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
        p_values: adjusted p-value of "the row's contestant is better", (contestants, contestants).
        better: probability that the row's contestant is better, (contestants, contestants); None for
            published figures.
        images: number of images; None for published figures.
        seeds: largest number of seeds of a contestant; 0 for published figures.
        fewest_seeds: smallest number of seeds of a contestant; 0 for published figures.
        samples: scores on resamples, (resamples, contestants); None for published figures.
    """

    title: str
    metric: str
    is_published: bool
    scores: np.ndarray
    ranks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_values: np.ndarray
    better: np.ndarray | None = None
    images: int | None = None
    seeds: int = 0
    fewest_seeds: int = 0
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
        cautions: differences between contestants of a column, and contestants and columns that are left
            out; one sentence each.
        resamples: number of resamples.
    """

    contestants: tuple[str, ...]
    columns: tuple[RankedColumn, ...]
    pairs: tuple[ColumnPair, ...]
    cautions: tuple[str, ...]
    resamples: int


def rank(
    contest: Contest,
    drawn: Mapping[Path, Uncertainty],
    published: Sequence[Entry] = (),
    seed: int = 0,
) -> Ranking:
    """Rank the contestants of a contest.

    Args:
        contest: checked columns.
        drawn: figures on resampled images, by path of the result.
        published: published figures; those of a recipe form a column if at least three contestants
            have one.
        seed: random seed of the resampled seeds.

    Raises:
        UserError: a score is undefined in many resamples.
    """
    ours = _ranked(contest, drawn, seed)
    order = np.lexsort((contest.contestants, np.mean([each.ranks for each in ours], axis=0)))
    ours = [_reordered(each, order) for each in ours]
    names = tuple(contest.contestants[index] for index in order)
    everything = [*ours, *_published_columns(contest.columns, names, published)]
    compared = [pair for pair in combinations(range(len(everything)), 2) if pair[0] < len(ours)]
    bar = tqdm(compared, desc='pairs of columns', leave=False, disable=None)
    pairs = [_compare(first, second, everything) for first, second in bar]
    return Ranking(
        contestants=names,
        columns=tuple(everything),
        pairs=tuple(pairs),
        cautions=(*_cautions(contest), *contest.left_out),
        resamples=len(ours[0].samples),
    )


def _ranked(contest: Contest, drawn: Mapping[Path, Uncertainty], seed: int) -> list[RankedColumn]:
    columns = contest.columns
    scores = np.array([_scores(each) for each in columns])
    samples = np.stack([*_samples(columns, drawn, seed)], axis=1)
    is_known = np.isfinite(samples).all((1, 2))
    if is_known.mean() < CONFIDENCE:
        raise UserError(
            f'a score is undefined in {np.count_nonzero(~is_known):,} of {len(samples):,} resamples; '
            'evaluate on more images'
        )
    samples = drawn_scores = samples[is_known]
    images = np.array([each.first.images for each in columns])
    # A resample has fewer distinct images: AP is higher on average, and figures vary too little.
    wider = np.sqrt(images / (images - 1))[:, None]
    samples = scores + wider * (samples - samples.mean(0))
    tested = p_values(scores, samples, images)
    found = []
    for index, each in enumerate(columns):
        low, high = rank_intervals(tested[index] <= LEVEL)
        # Shares have no bias, and shifting them would break their ties.
        is_share = find_metric(each.metric).is_share
        compared = drawn_scores[:, index].round(9) if is_share else samples[:, index]
        found.append(
            RankedColumn(
                title=contest.titles[index],
                metric=each.metric,
                is_published=False,
                scores=scores[index],
                ranks=ranks(scores[index]),
                low=low,
                high=high,
                better=probabilities(compared),
                p_values=tested[index],
                images=each.first.images,
                seeds=max(map(len, each.runs.values())),
                fewest_seeds=min(map(len, each.runs.values())),
                samples=samples[:, index],
            )
        )
    return found


def _scores(column: Entries) -> list[float]:
    """Return the mean score of each contestant over its seeds."""
    return [
        # Rounded, since equal means of several seeds can differ by rounding errors.
        round(float(np.mean([run.metrics[column.metric] for run in runs])), 9)
        for runs in column.runs.values()
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
        found[title, scores.tobytes()] = RankedColumn(
            title=title,
            metric=each.metric,
            is_published=True,
            scores=scores,
            ranks=own,
            low=own,
            high=own,
            # Nothing is known about chance: each difference counts.
            p_values=1.0 - (scores[:, None] > scores),
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


def _cautions(contest: Contest) -> Iterable[str]:
    for title, each in zip(contest.titles, contest.columns, strict=True):
        differing = [name for name, fact in _SHARED_FACTS if len(set(map(fact, each.results))) > 1]
        if differing:
            yield f'{title}: contestants differ in {" and ".join(differing)}.'
