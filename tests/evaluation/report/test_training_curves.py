"""Curves of resumed and killed trainings, and of corrupt logs."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.report.reported_runs import Problems
from evaluation.report.training_curves import POINTS, read_curves, thinned
from tests.evaluation.report.matrix import scalars, write_scalars

FIRST, SECOND = '20260101_120000', '20260102_120000'


@pytest.fixture
def problems():
    return Problems()


def curve(folder, problems, name='loss', kind='training', started=None):
    found = read_curves(folder, started, problems).as_json()[kind][name]
    return list(zip(found['x'], found['y'], strict=True))


def test_resumed_run_continues_at_its_checkpoint(tmp_path, problems):
    write_scalars(tmp_path, FIRST, [scalars(step, loss=step) for step in (1, 2, 3, 4)])
    write_scalars(tmp_path, SECOND, [scalars(step, loss=10 * step) for step in (3, 4, 5)])
    assert curve(tmp_path, problems) == [(1, 1), (2, 2), (3, 30), (4, 40), (5, 50)]
    assert curve(tmp_path, problems, started=FIRST) == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert not problems.messages


def test_run_that_started_over_hides_the_earlier_one(tmp_path, problems):
    write_scalars(tmp_path, FIRST, [scalars(step, loss=step) for step in (1, 2, 3)])
    write_scalars(tmp_path, SECOND, [scalars(1, loss=7)])
    assert curve(tmp_path, problems) == [(1, 7)]


def test_truncated_last_line_is_accepted(tmp_path, problems):
    write_scalars(tmp_path, FIRST, [scalars(1, loss=1), '{"loss": 0.5, "st'])
    assert curve(tmp_path, problems) == [(1, 1)]
    assert not problems.messages


def test_malformed_line_is_reported_and_skipped(tmp_path, problems):
    file = write_scalars(tmp_path, FIRST, [scalars(1, loss=1), '{', '[1]', scalars(2, loss=2)])
    assert curve(tmp_path, problems) == [(1, 1), (2, 2)]
    assert problems.messages == [
        f'skipped: {file}: line 2 is malformed',
        f'skipped: {file}: line 3 is malformed',
    ]


def test_invalid_utf8_is_reported(tmp_path, problems):
    file = write_scalars(tmp_path, FIRST, [])
    file.write_bytes(b'\xff\xfe{')
    assert read_curves(tmp_path, None, problems) is None
    assert str(file) in problems.messages[0]


def test_evaluations_are_at_iterations_and_in_percent(tmp_path, problems):
    found = {'coco/bbox_mAP': 0.25, 'coco/bbox_mAP_l': -1.0, 'coco/segm_mAP_50': 0.5, 'time': 0.1}
    entries = [scalars(10, loss=1), {**found, 'step': 1}, scalars(20, loss=1), {'mIoU': 45.5, 'step': 2}]
    write_scalars(tmp_path, FIRST, entries)
    curves = read_curves(tmp_path, None, problems).as_json()['evaluation']
    assert curves == {
        'box_AP': {'x': [10], 'y': [25.0]},
        'mask_AP50': {'x': [10], 'y': [50.0]},
        'mIoU': {'x': [20], 'y': [45.5]},
    }


def test_non_finite_values_are_gaps(tmp_path, problems):
    write_scalars(
        tmp_path, FIRST, [scalars(1, loss=1), scalars(2, loss=float('nan')), scalars(3, loss=3)]
    )
    assert curve(tmp_path, problems) == [(1, 1), (2, None), (3, 3)]


def test_no_curves_for_a_test(tmp_path, problems):
    write_scalars(tmp_path, FIRST, [{'mIoU': 45.5, 'step': 0}])
    assert read_curves(tmp_path, None, problems) is None


def test_long_trainings_are_thinned(tmp_path, problems):
    write_scalars(tmp_path, FIRST, [scalars(step, loss=step) for step in range(1, 5001)])
    found = curve(tmp_path, problems)
    assert len(found) == POINTS
    assert (found[0], found[-1]) == ((1, 1), (5000, 5000))


@given(st.integers(0, 3000), st.integers(1, 50))
def test_thinned_indices_are_evenly_spaced(count, most):
    kept = thinned(count, most)
    assert len(kept) == len(set(kept)) == min(count, most)
    assert kept == sorted(kept)
    if count and most > 1:
        assert (kept[0], kept[-1]) == (0, count - 1)
        gaps = [b - a for a, b in pairwise(kept)]
        assert not gaps or max(gaps) - min(gaps) <= 1
