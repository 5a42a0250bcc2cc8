"""Differences on the page match those of `tools/compare.py`, with one and several seeds."""

import json
import re

import numpy as np
import pytest

from evaluation.report.image_evidence import weigh
from evaluation.report.reported_runs import Problems, gather_runs
from evaluation.results.reading import load_results
from evaluation.statistics.comparison import compare
from tests.evaluation.metrics.problems import guesses, write_result

RESAMPLES = 200


def write_classifier(folder, backbone, right, seed=0):
    entry = {'file': None, 'sha256': None, 'weights_sha256': f'{backbone} {seed}'}
    write_result(folder, guesses(np.asarray(right)), backbone, seed=seed, checkpoint=entry)


@pytest.fixture
def found(tmp_path):
    """Return the differences in top-1, and the results by key."""

    def found():
        runs = gather_runs(load_results([tmp_path]))
        results = {run.key: run.result for run in runs}
        problems = Problems()
        differences = weigh(runs, RESAMPLES, problems).differences
        assert problems.messages == []
        return [each for each in differences if each['metric'] == 'top1'], results

    return found


def test_pair_matches_the_comparison(tmp_path, found):
    write_classifier(tmp_path / 'a', 'pvt_tiny', np.arange(100) < 50)
    write_classifier(tmp_path / 'b', 'halo_tiny', np.arange(100) % 10 < 7)
    (each,), results = found()
    sides = [[results[key] for key in each[side]['runs']] for side in 'ab']
    assert [side[0].contestant.name for side in sides] == ['halo_tiny', 'pvt_tiny']
    truth = next(one for one in compare(*sides, RESAMPLES) if one.metric == 'top1')
    assert each['sentence'] == truth.sentence
    expected = {end: getattr(truth.difference, end) for end in ('value', 'low', 'high')}
    assert each['difference'] == pytest.approx(expected, rel=1e-4)
    assert each['toldApart'] == truth.is_told_apart


def test_seeds_of_a_model_are_pooled(tmp_path, found):
    write_classifier(tmp_path / 'a', 'pvt_tiny', np.arange(100) < 50)
    for seed in range(3):
        write_classifier(tmp_path / f'b{seed}', 'halo_tiny', np.arange(100) < 60 + 5 * seed, seed)
    (each,), results = found()
    assert [each[side]['name'] for side in 'ab'] == ['halo_tiny (3 seeds)', 'pvt_tiny']
    assert each['difference']['value'] == 15.0
    sides = [[results[key] for key in each[side]['runs']] for side in 'ab']
    truth = next(one for one in compare(*sides, RESAMPLES) if one.metric == 'top1')
    expected = {end: getattr(truth.difference, end) for end in ('value', 'low', 'high')}
    assert each['difference'] == pytest.approx(expected, rel=1e-4)


def test_interval_end_near_zero_keeps_its_sign(tmp_path, found):
    right = np.arange(5000) < 2500
    write_classifier(tmp_path / 'a', 'pvt_tiny', right)
    write_classifier(tmp_path / 'b', 'halo_tiny', right | (np.arange(5000) == 4000))
    (each,), _ = found()
    assert each['difference']['value'] == pytest.approx(0.02)
    assert each['printed']['value'] == '+0.02'
    ends = re.search(r'difference (\S+) to (\S+),', each['sentence']).groups()
    assert ends == (each['printed']['low'], each['printed']['high'])


def test_differences_in_evaluation_are_mentioned(tmp_path, found):
    write_classifier(tmp_path / 'a', 'pvt_tiny', np.arange(100) < 50)
    write_classifier(tmp_path / 'b', 'halo_tiny', np.arange(100) % 10 < 7)
    file = next((tmp_path / 'b').rglob('result.json'))
    file.write_text(json.dumps(json.loads(file.read_text()) | {'test_time_augmentation': True}))
    (each,), _ = found()
    assert 'One model was evaluated with test-time augmentation (TTA) and the' in each['sentence']
