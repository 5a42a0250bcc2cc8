"""Tau-b compared with scipy and counted inversions; intervals and tests with constructed columns."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from evaluation.statistics.rank_agreement import (
    agreement,
    increasing,
    p_values,
    probabilities,
    rank_intervals,
    ranks,
    tau_b,
)
from tests.evaluation.statistics.rank_simulation import Truth, column_pair, trial

scores = st.lists(st.integers(0, 5), min_size=3, max_size=12)


def measured(truth, noise, random, resamples=300):
    """Return scores with noise, and scores on resamples, whose noise is as large."""
    found = truth + noise * random.standard_normal(len(truth))
    return found, found + noise * random.standard_normal((resamples, len(truth)))


class TestTau:
    @given(st.data(), scores)
    @settings(deadline=None)
    def test_with_ties(self, data, a):
        b = data.draw(st.lists(st.integers(0, 5), min_size=len(a), max_size=len(a)))
        expected = stats.kendalltau(a, b, variant='b').statistic
        assert tau_b(np.array(a), np.array(b)) == pytest.approx(expected, nan_ok=True)

    @given(st.permutations(range(8)))
    def test_of_a_permutation(self, order):
        inversions = sum(order[i] > order[j] for i, j in combinations(range(8), 2))
        assert tau_b(np.arange(8), np.array(order)) == pytest.approx(1 - 2 * inversions / 28)

    def test_of_many_samples_at_once(self):
        random = np.random.default_rng(0)
        a, b = random.integers(4, size=(2, 10, 6))
        expected = [stats.kendalltau(*pair).statistic for pair in zip(a, b, strict=True)]
        assert tau_b(a, b) == pytest.approx(expected, nan_ok=True)

    def test_is_undefined_if_all_scores_are_equal(self):
        assert math.isnan(tau_b(np.zeros(4), np.arange(4)))
        found = agreement(np.zeros(4), np.arange(4), (np.zeros((5, 4)), np.zeros((5, 4))))
        assert math.isnan(found.tau)
        assert math.isnan(found.low)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=12))
@settings(deadline=None)
def test_isotonic_regression(values):
    expected = optimize.isotonic_regression(values).x
    assert increasing(np.array(values)) == pytest.approx(expected, abs=1e-9)


@given(scores)
def test_rank_is_one_more_than_the_number_of_better_ones(values):
    expected = [1 + sum(other > value for other in values) for value in values]
    assert ranks(np.array(values)).tolist() == expected


def test_probabilities_of_both_orders_add_up_to_one():
    samples = np.array([[1, 2, 2], [3, 2, 1], [1, 2, 3], [1, 5, 4]])
    found = probabilities(samples)
    assert found == pytest.approx(1 - found.T)
    assert found[0].tolist() == [0.5, 0.25, 0.25]
    # One tie and two wins in four resamples.
    assert found[1, 2] == pytest.approx(0.625)


class TestPValues:
    def test_a_single_pair(self):
        """With many images, the p-value is that of a two-sided z test."""
        random = np.random.default_rng(1)
        samples = np.stack([random.standard_normal(20_000), np.zeros(20_000)], axis=1)[:, None]
        found = p_values(np.array([[2.1, 0.0]]), samples, np.array([10**6]))
        assert found[0, 0, 1] == pytest.approx(2 * stats.norm.sf(2.1), abs=0.005)
        assert found[0, 1, 0] > 0.9

    def test_few_images_use_student(self):
        random = np.random.default_rng(1)
        samples = np.stack([random.standard_normal(20_000), np.zeros(20_000)], axis=1)[:, None]
        found = p_values(np.array([[2.1, 0.0]]), samples, np.array([10]))
        assert found[0, 0, 1] == pytest.approx(2 * stats.t.sf(2.1, 9), abs=0.005)

    def test_step_down_is_at_least_as_strict_as_each_test_and_finds_clear_differences(self):
        random = np.random.default_rng(2)
        scores, samples = measured(np.array([0, 0.1, 20, 40]), 1, random, 2000)
        found = p_values(scores[None], samples[:, None], np.array([5000]))[0]
        is_better = found <= 0.05
        assert is_better.sum() == 5
        assert is_better[3].tolist() == [True, True, True, False]
        low, high = rank_intervals(is_better)
        assert low.tolist() == [3, 3, 2, 1]
        assert high.tolist() == [4, 4, 2, 1]

    def test_equal_contestants_are_rarely_told_apart(self):
        """In any column: the probability of a single wrong claim is at most 5 %."""
        wrong = 0
        for number in range(300):
            random = np.random.default_rng(number)
            columns = [measured(np.zeros(6), 1, random) for _ in range(2)]
            values = np.stack([column[0] for column in columns])
            samples = np.stack([column[1] for column in columns], axis=1)
            wrong += (p_values(values, samples, np.array([5000, 5000])) <= 0.05).any()
        # Four standard errors of a share of 0.05.
        assert wrong / 300 < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 300)

    def test_no_variation_tells_nothing_apart(self):
        found = p_values(np.array([[1.0, 2.0, 3.0]]), np.ones((200, 1, 3)), np.array([5]))
        assert (found > 0.05).all()


class TestAgreement:
    @pytest.mark.parametrize('contestants', [5, 20])
    def test_of_two_columns_from_one_population(self, contestants):
        found = [trial(Truth.SAME, contestants, 3, number) for number in range(20)]
        assert np.mean([each.covers_these for each in found]) > 0.8
        assert np.mean([each.covers_kind for each in found]) > 0.8
        assert np.mean([each.agreement.tau for each in found]) < 0.9

    @pytest.mark.parametrize('contestants', [5, 20])
    def test_of_independent_columns(self, contestants):
        found = [trial(Truth.INDEPENDENT, contestants, 3, number) for number in range(20)]
        assert np.mean([each.covers_these for each in found]) > 0.8
        assert np.mean([each.covers_kind for each in found]) > 0.8
        if contestants == 20:
            assert max(each.agreement.kind_high for each in found) < 1

    def test_of_classifiers_on_resampled_images(self):
        found = [trial(Truth.SAME, 5, 3, number, is_classified=True) for number in range(20)]
        assert np.mean([each.covers_these for each in found]) > 0.8
        # The noise is as large as that of the measured scores, so tau of 1 is rarely measured.
        assert np.mean([each.agreement.tau for each in found]) < 0.95
        assert not any(each.false_reversals for each in found[:10])

    def test_exact_scores_leave_only_the_choice_of_contestants(self):
        random = np.random.default_rng(3)
        a, b = column_pair(Truth.RELATED, 8, 1, random)
        found = agreement(a, b, tuple(x + 1e-9 * random.standard_normal((200, 8)) for x in (a, b)))
        assert found.low == found.tau == found.high
        assert found.kind_low < found.tau < found.kind_high

    def test_more_contestants_narrow_the_interval_for_their_kind(self):
        found = [trial(Truth.RELATED, count, 10, 5).agreement for count in (4, 10, 40)]
        widths = [each.kind_high - each.kind_low for each in found]
        assert widths[0] > widths[1] > widths[2]

    def test_does_not_depend_on_the_scale_of_scores(self):
        random = np.random.default_rng(4)
        (a, drawn), (b, others) = (measured(random.normal(0, 3, 6), 1, random) for _ in range(2))
        found = agreement(a, b, (drawn, others))
        scaled = agreement(5 * a + 40, b / 7, (5 * drawn + 40, others / 7))
        for name in ('tau', 'low', 'high', 'kind_low', 'kind_high'):
            assert getattr(scaled, name) == pytest.approx(getattr(found, name), abs=1e-6)

    def test_one_order_with_unequal_gaps(self):
        """A common order is kept even if the scores are not related linearly."""
        kept = 0
        for number in range(10):
            random = np.random.default_rng(number)
            truth = random.standard_normal(20)
            (a, drawn), (b, others) = (measured(each, 0.1, random) for each in (truth, np.exp(truth)))
            kept += agreement(a, b, (drawn, others)).high == 1
        assert kept >= 8

    @given(st.integers(0, 1000), st.integers(3, 8))
    @settings(max_examples=10, deadline=None)
    def test_turning_a_column_around_turns_the_interval_around(self, seed, count):
        random = np.random.default_rng(seed)
        (a, drawn), (b, others) = (measured(random.normal(0, 3, count), 1, random) for _ in range(2))
        found = agreement(a, b, (drawn, others))
        turned = agreement(a, -b, (drawn, -others))
        assert turned.tau == -found.tau
        assert (turned.kind_low, turned.kind_high) == pytest.approx(
            (-found.kind_high, -found.kind_low), abs=0.051
        )
