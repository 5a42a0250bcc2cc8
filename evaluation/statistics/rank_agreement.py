"""Agreement of rankings: Kendall's tau-b, contestants told apart, ranks and tau with intervals.

Tau of measured scores is nearer to zero than tau of the true scores, because noise turns some pairs
around. Resampling adds the noise once more, so percentiles of the resampled tau miss the truth: two
columns with the same true order would rarely get an interval that reaches 1. So the intervals come from
a model of the true scores: in two columns, they are normal with an unknown correlation, and the
bootstrap gives the noise of their measurement. All correlations that the measured scores do not reject
are kept. They bound tau for contestants of this kind, and the true scores that are likely with one of
them bound tau for these contestants.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from evaluation.statistics.bootstrap import CONFIDENCE
from evaluation.statistics.randomization import LEVEL

LEAST_CONTESTANTS = 3
# Resamples for the intervals of tau; more would not change two digits.
MOST_DRAWS = 2000
# Resamples that are held in memory for all pairs.
_CHUNK = 1000
# Values of tau whose correlation is tested. Tau of two normal variables with correlation r is
# 2 / pi arcsin r (Kendall and Gibbons, 1990).
_TAUS = np.linspace(-1, 1, 41)
# Median absolute deviation of a standard normal variable.
_NORMAL_MEDIAN = stats.norm.ppf(0.75)
# Variance added for rounding errors, relative to the variance of the scores.
_JITTER = 1e-9
_SEED = 0


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau-b of two columns, with two 95 % confidence intervals.

    Attributes:
        tau: tau-b of the measured scores; NaN if all scores of a column are equal.
        low: lower end for the true scores of these contestants; NaN if there is no interval.
        high: upper end for these contestants.
        kind_low: lower end for contestants of this kind, of which these are a random sample.
        kind_high: upper end for contestants of this kind.
    """

    tau: float
    low: float = math.nan
    high: float = math.nan
    kind_low: float = math.nan
    kind_high: float = math.nan


def tau_b(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b of scores (Kendall, 1945); NaN if all scores on one side are equal.

    Args:
        a: scores, (..., contestants).
        b: scores, (..., contestants).
    """
    first, second = _signs(a), _signs(b)
    untied = np.count_nonzero(first, axis=-1) * np.count_nonzero(second, axis=-1)
    with np.errstate(invalid='ignore'):
        return (first * second).sum(-1, dtype=np.int64) / np.sqrt(untied)


def _signs(scores: np.ndarray) -> np.ndarray:
    """Return the sign of the difference of each pair, (..., pairs), int8."""
    first, second = np.triu_indices(np.shape(scores)[-1], 1)
    return np.sign(scores[..., first] - scores[..., second]).astype(np.int8)


def ranks(scores: np.ndarray) -> np.ndarray:
    """Return the rank of each contestant, 1 for the highest score; ties share the best rank.

    Args:
        scores: scores, (contestants,).

    Returns:
        Ranks, (contestants,), int64.
    """
    return stats.rankdata(-scores, method='min').astype(np.int64)


def probabilities(samples: np.ndarray) -> np.ndarray:
    """Return how often each contestant is better than each other one; ties count half.

    Args:
        samples: scores on resamples, (resamples, contestants).

    Returns:
        Share of resamples in which the row's contestant is better, (contestants, contestants); 0.5 on
        the diagonal.
    """
    found = [((own[:, None] > samples) + 0.5 * (own[:, None] == samples)).mean(0) for own in samples.T]
    return np.stack(found)


def p_values(scores: np.ndarray, samples: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Test which contestants differ, in all columns together, with p-values for multiple tests.

    The step-down procedure of Romano and Wolf (2005) tests for each ordered pair that the first
    contestant is not better. The probability of any wrong rejection in any column is at most the level.
    Mogstad et al. (2024) derive confidence intervals of ranks from the same tests.

    Args:
        scores: scores, (columns, contestants).
        samples: scores on resamples, (resamples, columns, contestants), which vary as much as scores of
            new images.
        images: number of resampled images of each column, (columns,).

    Returns:
        Adjusted p-value of "the row's contestant is better", (columns, contestants, contestants); 1 on
        the diagonal.
    """
    count = scores.shape[-1]
    first, second = np.nonzero(~np.eye(count, dtype=bool))
    images = np.asarray(images)[:, None]
    mean = samples.mean(0)
    deviation = np.stack([_deviations(own) for own in samples.swapaxes(0, 1)])[:, first, second]
    is_known = deviation > _JITTER * np.abs(scores).max()
    deviation = np.where(is_known, deviation, np.inf)
    observed = (scores[:, first] - scores[:, second]) / deviation
    # With few images, the deviation is uncertain: replace Student's quantile by the normal one.
    observed = np.sign(observed) * stats.norm.isf(stats.t.sf(np.abs(observed), images - 1))
    observed = observed.reshape(-1)
    order = np.argsort(-observed, kind='stable')
    exceeding = np.zeros(len(order), np.int64)
    for start in range(0, len(samples), _CHUNK):
        noise = samples[start : start + _CHUNK] - mean
        noise = ((noise[..., first] - noise[..., second]) / deviation).reshape(len(noise), -1)
        # Each hypothesis is compared with the largest of those that are not yet rejected.
        largest = np.maximum.accumulate(noise[:, order[::-1]], axis=1)[:, ::-1]
        exceeding += (largest >= observed[order]).sum(0)
    adjusted = np.maximum.accumulate((1 + exceeding) / (1 + len(samples)))
    found = np.ones((len(scores), count, count))
    tested = np.empty(len(order))
    tested[order] = adjusted
    found[:, first, second] = tested.reshape(len(scores), -1)
    return found


def _deviations(samples: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each difference, (contestants, contestants)."""
    covariance = np.cov(samples, rowvar=False)
    variances = np.diag(covariance)
    return np.sqrt(np.maximum(variances[:, None] + variances - 2 * covariance, 0))


def rank_intervals(is_better: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best and the worst rank that agree with the contestants told apart.

    Args:
        is_better: whether the row's contestant is better than the column's, beyond chance,
            (contestants, contestants), bool.

    Returns:
        Lowest and highest rank of each contestant, (contestants,) each.
    """
    return 1 + is_better.sum(0), len(is_better) - is_better.sum(1)


def agreement(a: np.ndarray, b: np.ndarray, drawn: tuple[np.ndarray, np.ndarray]) -> Agreement:
    """Return Kendall's tau-b of two columns with its intervals.

    Args:
        a: scores of the first column, (contestants,), at least three.
        b: scores of the second column, (contestants,).
        drawn: scores of both columns on resamples, (resamples, contestants) each. Resamples with the
            same index use the same images if the columns do. More than `MOST_DRAWS` are not used.
    """
    drawn = drawn[0][:MOST_DRAWS], drawn[1][:MOST_DRAWS]
    tau = float(tau_b(a, b))
    if math.isnan(tau):
        return Agreement(tau)
    scores, noise = zip(*map(_straightened, (a, b), drawn), strict=True)
    model = _Model(np.stack(scores, 1), np.stack(noise, 2))
    is_kept, spreads = model.kept()
    kept = [(value, spreads[index]) for index, value in enumerate(_TAUS) if is_kept[index]]
    ends = [model.likely(*each) for each in kept]
    # A single order can explain both columns even if their scores are not related linearly.
    extremes = [sign for sign in (-1, 1) if model.explains(sign)]
    of_these = [tau, *extremes, *(end for pair in ends for end in pair)]
    of_kind = [*extremes, *(value for value, _ in kept)]
    return Agreement(tau, *(float(end(each)) for each in (of_these, of_kind) for end in (min, max)))


def _straightened(scores: np.ndarray, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transform scores so that outliers count less; the order, and so tau, does not change.

    Returns:
        Transformed scores without their mean, (contestants,), and noise, (resamples, contestants).
    """
    middle = np.median(scores)
    deviation = np.median(np.abs(scores - middle)) / _NORMAL_MEDIAN
    unit = max(deviation, float(np.median(samples.std(0))), _JITTER * float(np.ptp(scores)))
    changed, drawn = np.arcsinh((scores - middle) / unit), np.arcsinh((samples - middle) / unit)
    return changed - changed.mean(), drawn - drawn.mean(0)


class _Model:
    """True scores of contestants in two columns: normal, with bootstrap noise in their measurement.

    Attributes:
        scores: centered scores, (contestants, 2).
        noise: noise of the scores, (resamples, contestants, 2).
        observed: covariance of the scores between contestants, (2, 2).
        error: the part of it that noise explains, (2, 2).
    """

    def __init__(self, scores: np.ndarray, noise: np.ndarray) -> None:
        self.scores, self.noise = scores, noise
        free = len(scores) - 1
        self.observed = scores.T @ scores / free
        # Noise that all contestants share changes no rank.
        own = noise - noise.mean(1, keepdims=True)
        self.error = np.einsum('rci,rcj->ij', own, own) / (free * (len(noise) - 1))
        self.error += _JITTER * np.diag(np.diag(self.observed))
        self.normal = np.random.default_rng(_SEED).standard_normal((2, *noise.shape[:2]))

    def kept(self) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Return which of `_TAUS` a likelihood ratio test keeps, and the best deviations for each.

        The critical value makes the test exact if there is no noise, where it is the t test of a
        correlation.
        """
        middle = len(_TAUS) // 2
        fits = {middle: self._fit(0.0, self._start())}
        for step in (1, -1):
            index = middle + step
            while 0 <= index < len(_TAUS):
                fits[index] = self._fit(_TAUS[index], fits[index - step][1])
                index += step
        losses, spreads = zip(*(fits[index] for index in range(len(_TAUS))), strict=True)
        count = len(self.scores)
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 2)
        critical = (count - 1) * math.log1p(quantile**2 / (count - 2))
        return np.array(losses) - min(losses) <= critical, list(spreads)

    def _start(self) -> tuple[float, float]:
        variances = np.diag(self.observed)
        true = np.maximum(variances - np.diag(self.error), 0.05 * variances)
        return tuple(np.sqrt(true).tolist())

    def _fit(self, tau: float, start: tuple[float, float]) -> tuple[float, tuple[float, float]]:
        """Return the least loss for a value of tau, and the deviations of the true scores for it."""
        (p, q), (_, r) = self.observed.tolist()
        (e, f), (_, g) = self.error.tolist()
        correlation, free = math.sin(math.pi / 2 * tau), len(self.scores) - 1

        def loss(deviations: np.ndarray) -> float:
            one, other = deviations.tolist()
            a, b, c = one * one + e, correlation * one * other + f, other * other + g
            determinant = a * c - b * b
            if determinant <= 0 or one < 0 or other < 0:
                return math.inf
            return free * (math.log(determinant) + (c * p - 2 * b * q + a * r) / determinant)

        starts = [start, self._start()]
        best = min(starts, key=lambda each: loss(np.array(each)))
        options = {'xatol': 1e-3 * min(p, r) ** 0.5, 'fatol': 1e-3, 'maxfev': 200}
        found = optimize.minimize(loss, best, method='Nelder-Mead', options=options)
        return float(found.fun), tuple(found.x.tolist())

    def likely(self, tau: float, deviations: tuple[float, float]) -> tuple[float, float]:
        """Return the ends of tau-b of true scores that are likely for a correlation and deviations.

        True scores are drawn given the measured ones: a draw of true scores, plus what the measured
        scores say about its error.
        """
        if abs(tau) == 1:
            return tau, tau
        correlation = math.sin(math.pi / 2 * tau)
        one, other = deviations
        first, second = self.normal
        second = correlation * first + math.sqrt(1 - correlation**2) * second
        true = np.stack([one * first, other * second], axis=2)
        cross = correlation * one * other
        covariance = np.array([[one * one, cross], [cross, other * other]])
        gain = np.linalg.solve(covariance + self.error, covariance)
        true = true + (self.scores - true - self.noise) @ gain
        found = np.sort(tau_b(true[..., 0], true[..., 1]))
        cut = int(LEVEL / 2 * len(found))
        return float(found[cut]), float(found[-1 - cut])

    def explains(self, sign: int) -> bool:
        """Return whether noise explains why the columns do not have the same order, or opposite ones.

        The scores are replaced by the nearest ones of a common order and measured again. They are
        explained if the new ones are often as far from a common order.

        Args:
            sign: 1 for the same order in both columns, -1 for opposite orders.
        """
        unit = np.sqrt(np.diag(self.error)) * (1, sign)
        fitted, distance = _in_one_order(self.scores / unit)
        _, distances = _in_one_order(fitted + self.noise / unit)
        return bool((distances >= distance).mean() > LEVEL / 2)


def _in_one_order(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return near scores with the same order in both columns, and their squared distance.

    Args:
        scores: scores with the same noise in both columns, (..., contestants, 2).
    """
    order = np.argsort(scores.sum(-1), axis=-1)[..., None]
    ordered = np.take_along_axis(scores, order, axis=-2)
    fitted = np.stack([increasing(ordered[..., column]) for column in range(2)], axis=-1)
    found = np.empty_like(scores)
    np.put_along_axis(found, order, fitted, axis=-2)
    return found, ((found - scores) ** 2).sum((-2, -1))


def increasing(values: np.ndarray) -> np.ndarray:
    """Return the nearest values that do not decrease (isotonic regression, by its min-max form).

    Args:
        values: values, (..., N).
    """
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    start, stop = np.indices((values.shape[-1],) * 2)
    length = stop - start + 1
    means = (sums[..., 1:][..., stop] - sums[..., start]) / np.maximum(length, 1)
    # The least mean of the blocks from each start to at least each place.
    means = np.where(length > 0, means, np.inf)[..., ::-1]
    least = np.minimum.accumulate(means, axis=-1)[..., ::-1]
    return np.where(length > 0, least, -np.inf).max(-2)


def chance_of_tau(contestants: int, tau: float) -> float:
    """Return how often two unrelated orders have a tau at least as far from zero (Kendall, 1938).

    Args:
        contestants: number of contestants, without ties.
        tau: value of tau.
    """
    # Number of orders by their number of discordant pairs.
    orders = np.ones(1)
    for count in range(2, contestants + 1):
        orders = np.convolve(orders, np.full(count, 1 / count))
    found = 1 - 2 * np.arange(len(orders)) / math.comb(contestants, 2)
    return float(orders[np.abs(found) >= abs(tau) - 1e-9].sum())
