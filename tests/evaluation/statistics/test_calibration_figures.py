"""Intervals of calibration errors of constructed classifiers."""

import numpy as np
import pytest

from evaluation.metrics.class_records import collect_guesses
from evaluation.statistics.calibration_figures import calibration_intervals
from evaluation.statistics.result_metrics import each_image_once
from tests.evaluation.metrics.problems import guesses


def classifier(images, gap, random):
    """Return evidence of a classifier whose confidence is too high by `gap`."""
    confidence = random.uniform(0.3, 1, images)
    right = random.random(images) < confidence - gap
    names = [f'{number:05}' for number in range(images)]
    return collect_guesses(
        names, [(0, int(not each), 0 if each else 5) for each in right], ('a', 'b'), confidence
    )


def error(evidence):
    return evidence.calibration()['ECE'].error(each_image_once(evidence))


@pytest.mark.parametrize('gap', [0.0, 0.15])
def test_intervals_cover_the_expected_error(gap):
    random = np.random.default_rng(0)
    expected = np.mean([error(classifier(200, gap, random)) for _ in range(300)])
    covered = 0
    for seed in range(60):
        evidence = classifier(200, gap, random)
        found = calibration_intervals(evidence, 200, seed)['ECE']
        assert found.value == pytest.approx(error(evidence))
        covered += found.low <= expected <= found.high
    # Of 60 intervals with a coverage of 95 %, fewer than 51 cover it once in 1,000 times.
    assert covered >= 51
    # The interval does not tell that a model is calibrated: noise in the bins raises the error.
    assert expected > 100 * gap + 0.5


def test_without_resamples_there_is_no_interval():
    found = calibration_intervals(classifier(50, 0.1, np.random.default_rng(0)))['ECE']
    assert found.value > 0
    assert np.isnan([found.low, found.high]).all()


def test_records_of_earlier_versions_have_no_errors():
    assert calibration_intervals(guesses([True, False]), 200) == {}
