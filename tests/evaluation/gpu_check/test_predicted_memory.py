"""Stage `memory`: a training that needs more than predicted fails, and others keep both figures."""

import pytest

from evaluation.gpu_check import predicted_memory
from evaluation.gpu_check.checks import (
    PASSED,
    FailedCheckError,
    Outcome,
    Settings,
    SkippedCheckError,
    append_outcome,
)
from evaluation.gpu_check.predicted_memory import GB, compare

MODEL = ('upernet', 'swin', 'fp32')


@pytest.fixture
def settings(tmp_path):
    return Settings('cuda', False, tmp_path)


def measured(settings, gigabytes):
    figures = {'memory_bytes': gigabytes and gigabytes * GB}
    append_outcome(settings.folder / 'training.jsonl', Outcome(', '.join(MODEL), PASSED, 1.0, figures))


def test_figures(settings):
    measured(settings, 3.0)
    found = compare(settings, *MODEL)
    assert found['measured'] == 3e9
    # A batch of two images of 512x512.
    assert 2e9 < found['predicted'] < 5e9
    assert found['needed'] == pytest.approx(1.1 * found['predicted'] + 1.5e9)


def test_more_than_predicted(settings):
    measured(settings, 9.0)
    with pytest.raises(FailedCheckError, match=r'9\.0 GB measured; .* predicted, .* with headroom'):
        compare(settings, *MODEL)


def test_nothing_was_measured(settings, tmp_path):
    with pytest.raises(SkippedCheckError, match='needs a training'):
        compare(settings, *MODEL)
    measured(settings, None)
    with pytest.raises(SkippedCheckError, match='needs a training'):
        compare(settings, *MODEL)
    with pytest.raises(SkippedCheckError, match='small images'):
        compare(Settings('cuda', True, tmp_path), *MODEL)


def test_checks_are_trainings_of_the_check(settings):
    from evaluation.gpu_check import trainings

    trained = {check.name for check in trainings.checks(settings)}
    assert {check.name for check in predicted_memory.checks(settings)} <= trained
