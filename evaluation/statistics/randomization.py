"""Paired randomization test of the difference between two models (Fisher, 1935).

If two models are equally good, it does not matter which of them made a prediction. The test swaps the
predictions of both models on randomly chosen images and counts how often the swapped difference is at
least as large as the observed one. That share is the p-value. It is valid for any number of images and
any metric. Five differing images are never enough for a p-value of 5 %, since 2 of the 32 ways to swap
them give the observed difference or its negative (6 %).

The result is deterministic: accuracy and small problems are computed exactly, and other problems use a
fixed sequence of random swaps.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import signal, stats

from evaluation.metrics.records import Evidence, Measure
from evaluation.statistics.result_metrics import metric_of
from evaluation.tasks import find_metric

# Two models are told apart if the p-value is at most this.
LEVEL = 0.05
# Up to this number of differing images, all swaps are tried: 1,024, since the complement of a swap
# gives the same difference with the opposite sign.
MOST_ENUMERATED = 11
# Random swaps are added in steps until it is clear whether the p-value is below or above the level.
SWAPS_A_STEP = 100
MOST_SWAPS = 1000
# Confidence of the limits of a p-value that is estimated from random swaps.
CERTAINTY = 0.99
# In percent; larger than the rounding error of summing in a different order.
SAME = 1e-9
_SEED = 0


@dataclass(frozen=True)
class PairedTest:
    """Result of a paired test of two models by one metric.

    Attributes:
        p_value: share of swaps that give at least the observed difference.
        is_told_apart: whether the p-value is at most 5 %; if estimated, whether its upper limit is.
        swaps: number of random swaps of the estimate; 0 if the p-value is exact.
        differing: number of images on which the models differ.
    """

    p_value: float
    is_told_apart: bool
    swaps: int
    differing: int


def paired_tests(
    metrics: Sequence[str],
    a: Sequence[Evidence],
    b: Sequence[Evidence],
    on_progress: Callable[[], None] = lambda: None,
) -> dict[str, PairedTest | None]:
    """Test whether two models differ, by each of several metrics.

    Args:
        metrics: names of metrics of one task, such as `box_AP` or `top1`.
        a: per-image records of the first model, one for each seed; the mean over seeds is compared.
        b: per-image records of the second model, on the same images.
        on_progress: called after each random swap.

    Returns:
        Test of each metric, by name; None if the metric is undefined on these images.
    """
    shares = {name: _test_of_share(name, a, b) for name in metrics if find_metric(name).is_share}
    others = [name for name in metrics if name not in shares]
    return shares | (_tests_by_swapping(others, a, b, on_progress) if others else {})


def _tests_by_swapping(
    metrics: Sequence[str],
    a: Sequence[Evidence],
    b: Sequence[Evidence],
    on_progress: Callable[[], None],
) -> dict[str, PairedTest | None]:
    """Test metrics whose swapped differences have no closed-form distribution."""
    pairs = balanced_pairs(a, b)
    differing = np.any([differing_images(*pair) for pair in pairs], axis=0)
    count = int(differing.sum())
    is_exact = count <= MOST_ENUMERATED
    difference = _difference_of_swapped(metrics, pairs, by_rank=not is_exact)
    observed = difference(np.zeros(len(differing), np.bool_))
    if is_exact:
        p_values, swaps = _enumerate(difference, differing, observed), 0
        told = p_values <= LEVEL
    else:
        exceeding, swaps = _sample(difference, differing, observed, on_progress)
        p_values = (1 + exceeding) / (1 + swaps)
        told = np.array([_limits(each, swaps)[1] <= LEVEL for each in exceeding])
    return {
        name: PairedTest(float(p_values[place]), bool(told[place]), swaps, count)
        if np.isfinite(observed[place])
        else None
        for place, name in enumerate(metrics)
    }


def _difference_of_swapped(
    metrics: Sequence[str], pairs: Sequence[tuple[Evidence, Evidence]], by_rank: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from swapped images, (N,), bool, to differences in percent, (metrics,)."""
    evaluated: list[Measure] = [metric_of(joined(*pair, by_rank), metrics) for pair in pairs]

    def difference(swapped: np.ndarray) -> np.ndarray:
        ours, theirs = swap_weights(swapped)
        total = np.zeros(len(metrics))
        for metric in evaluated:
            first, second = metric(ours), metric(theirs)
            total += [first[name] - second[name] for name in metrics]
        return total / len(evaluated)

    return difference


def _enumerate(
    difference: Callable[[np.ndarray], np.ndarray], differing: np.ndarray, observed: np.ndarray
) -> np.ndarray:
    """Try all swaps and return the p-values, (metrics,)."""
    rest = np.flatnonzero(differing)[1:]

    def evaluate(chosen: tuple[bool, ...]) -> np.ndarray:
        swapped = np.zeros(len(differing), np.bool_)
        swapped[rest] = chosen
        return difference(swapped)

    with _threads() as threads:
        found = np.array(list(threads.map(evaluate, product((False, True), repeat=len(rest)))))
    return _exceeding(found, observed) / len(found)


def _sample(
    difference: Callable[[np.ndarray], np.ndarray],
    differing: np.ndarray,
    observed: np.ndarray,
    on_progress: Callable[[], None],
) -> tuple[np.ndarray, int]:
    """Swap random images until every p-value is clearly below or above the level.

    Returns:
        Number of swaps that give at least the observed difference, (metrics,), and number of all swaps.
    """

    def evaluate(number: int) -> np.ndarray:
        random = np.random.default_rng([_SEED, number])
        found = difference(differing & (random.random(len(differing)) < 0.5))
        on_progress()
        return found

    exceeding, swaps = np.zeros(len(observed), np.int64), 0
    with _threads() as threads:
        while swaps < MOST_SWAPS and not all(_is_clear(each, swaps) for each in exceeding):
            step = range(swaps, min(swaps + SWAPS_A_STEP, MOST_SWAPS))
            exceeding += _exceeding(np.array(list(threads.map(evaluate, step))), observed)
            swaps = step.stop
    return exceeding, swaps


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)))


def _exceeding(found: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Count the rows of (swaps, metrics) with at least the observed difference, (metrics,)."""
    # An undefined difference counts against the claim.
    return np.sum(~(np.abs(found) < np.abs(observed) - SAME), axis=0)


def _is_clear(exceeding: int, swaps: int) -> bool:
    if not swaps:
        return False
    low, high = _limits(exceeding, swaps)
    return not low <= LEVEL <= high


def _limits(exceeding: int, swaps: int) -> tuple[float, float]:
    """Return the exact confidence limits of a p-value (Clopper and Pearson, 1934)."""
    found = stats.binomtest(int(exceeding), swaps).proportion_ci(CERTAINTY, method='exact')
    return found.low, found.high


def _test_of_share(metric: str, a: Sequence[Evidence], b: Sequence[Evidence]) -> PairedTest | None:
    """Test a share of images exactly; with one run per model, this is McNemar's exact test."""
    ours = np.sum([run.right_images(metric) for run in a], axis=0, dtype=np.int64)
    theirs = np.sum([run.right_images(metric) for run in b], axis=0, dtype=np.int64)
    if not len(ours):
        return None
    # Differences per image, scaled so that means over runs are whole numbers.
    differences = len(b) * ours - len(a) * theirs
    p_value = sign_flip_p_value(differences)
    return PairedTest(p_value, p_value <= LEVEL, 0, int(np.count_nonzero(differences)))


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Return the exact share of sign choices whose sum is at least as far from zero as the observed one.

    Args:
        differences: difference on each image, (N,), int64.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    observed, total = abs(int(differences.sum())), int(np.abs(differences).sum())
    if not observed:
        return 1.0
    # Distribution of the sum of the negative parts: binomial for each size, combined by convolution.
    distribution = np.ones(1)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        part = np.zeros(size * count + 1)
        part[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        distribution = signal.convolve(distribution, part)
    # If the negative parts sum to x, the sum is total - 2 x.
    tail = distribution[: (total - observed) // 2 + 1].sum()
    return float(np.clip(2 * tail, 0, 1))


def joined(a: Evidence, b: Evidence, by_rank: bool = False) -> Evidence:
    """Join the records of two models into one evaluation with twice as many images.

    Image i of the first model becomes image 2 i, and image i of the second becomes 2 i + 1. With the
    weights `swap_weights(...)`, a metric of the joined records describes a model that takes some images
    from each. The interleaved order breaks ties between detections of both models in the same way,
    whichever model is first.

    Args:
        a: records of the first model, with N images.
        b: records of the second model, with the same images.
        by_rank: whether to replace the score of a detection by its rank within its model and class. This
            changes no AP and makes scores of differently calibrated models comparable.
    """
    images = np.array([f'{name}/{model}' for name in a.images.tolist() for model in ('a', 'b')])
    return a.joined(b, images, by_rank)


def swap_weights(swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of joined images for both models after a swap.

    Args:
        swapped: (N,), bool, images that the models exchange.

    Returns:
        Weights of the first and of the second model, (2 N,) each, int64.
    """
    first = np.stack([~swapped, swapped], axis=1).reshape(-1).astype(np.int64)
    return first, 1 - first


def differing_images(a: Evidence, b: Evidence) -> np.ndarray:
    """Return the images on which the records of two models differ, (N,), bool."""
    ours, theirs = _rows_by_image(a, b), _rows_by_image(b, a)
    return np.array([not np.array_equal(*pair) for pair in zip(ours, theirs, strict=True)], np.bool_)


def _rows_by_image(evidence: Evidence, other: Evidence) -> list[np.ndarray]:
    """Return the sorted records of each image that common figures depend on, (rows, columns) each."""
    image, columns = evidence.rows(other)
    table = np.stack([column.astype(np.float64) for column in columns], axis=1)
    order = np.lexsort((*table.T, image))
    places = np.searchsorted(image[order], np.arange(1, len(evidence.images)))
    return np.split(table[order], places)


def balanced_pairs(a: Sequence[Evidence], b: Sequence[Evidence]) -> list[tuple[Evidence, Evidence]]:
    """Pair the runs of two models so that each run of a model occurs equally often."""
    return [(a[number % len(a)], b[number % len(b)]) for number in range(np.lcm(len(a), len(b)))]
