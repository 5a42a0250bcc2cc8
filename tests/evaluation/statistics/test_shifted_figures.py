"""Intervals under distribution shift."""

import numpy as np
import pytest

from evaluation.results.reading import load_results
from evaluation.results.shifted import shifted_runs
from evaluation.statistics.shifted_figures import with_intervals, without_intervals
from tests.evaluation.results.shifted_folders import write_shifted_run

RESAMPLES = 300


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = write_shifted_run(
        tmp_path_factory.mktemp('runs') / 'run', 'swin_tiny', images=(30, *6 * [12])
    )
    (run,) = shifted_runs(load_results([folder]))
    return run


@pytest.fixture(scope='module')
def figures(run):
    return with_intervals(run, RESAMPLES)


def shown(figures):
    return [figures.inside, *figures.domains.values(), figures.mean, figures.effective_robustness]


def test_values_are_those_of_the_results(run, figures):
    plain = [each.value for each in shown(without_intervals(run))]
    assert [each.value for each in shown(figures)] == pytest.approx(plain, abs=1e-6)
    assert plain[-2:] == pytest.approx([run.mean, run.effective_robustness])
    assert all(each.low < each.value < each.high for each in shown(figures))
    assert all(np.isnan(each.low) for each in shown(without_intervals(run)))


def test_domains_vary_independently(figures):
    """Variances of independent domains add up; those of equal draws would add up to more."""

    def width(found):
        return found.high - found.low

    alone = np.array([width(each) for each in figures.domains.values()])
    expected = np.sqrt((alone**2).sum()) / len(alone)
    assert width(figures.mean) == pytest.approx(expected, rel=0.25)
    both = np.hypot(width(figures.mean), 0.45 * width(figures.inside))
    assert width(figures.effective_robustness) == pytest.approx(both, rel=0.25)


def test_the_same_seed_gives_the_same_intervals(run, figures):
    again, other = with_intervals(run, RESAMPLES), with_intervals(run, RESAMPLES, seed=1)
    assert shown(again) == shown(figures)
    assert other.mean.low != figures.mean.low
