"""Performance under corruption, against sums written out."""

import math

import pytest

from evaluation.analysis.robustness.result import Summary, summarize


def test_means_over_severities_then_corruptions():
    found = summarize(50.0, [[40.0, 20.0], [10.0, 10.0]])
    assert found == Summary(clean=50.0, mpc=20.0, rpc=40.0)


def test_corruptions_count_alike():
    assert summarize(100.0, [[10.0], [20.0, 40.0]]).mpc == pytest.approx((10 + 30) / 2)


def test_nothing_relative_to_zero():
    assert summarize(0.0, [[1.0]]) == Summary(clean=0.0, mpc=1.0, rpc=None)


@pytest.mark.parametrize(('clean', 'corrupted'), [(1.0, []), (math.nan, [[1.0]]), (1.0, [[math.nan]])])
def test_undefined(clean, corrupted):
    assert summarize(clean, corrupted) is None
