"""Comparisons of results: what they say, and what is refused."""

import json
import math
import re

import numpy as np
import pytest

from evaluation.errors import UserError
from evaluation.results.reading import read_result
from evaluation.significance.comparison import (
    compare,
    compare_results,
    distinct_names,
    rounded,
    signed,
)
from evaluation.significance.loading import load_evidence
from evaluation.significance.metrics import metrics_of
from evaluation.significance.seeds import by_experiment, spread
from tests.evaluation.evidence.problems import guesses, instance_evidence, write_result


def classifier(folder, right, backbone='dcn_tiny', **changes):
    return read_result(write_result(folder, guesses(np.array(right, bool)), backbone, **changes))


@pytest.fixture
def detectors(tmp_path):
    return [
        read_result(write_result(tmp_path / name, instance_evidence(20, detector=number), name))
        for number, name in enumerate(('dcn_tiny', 'swin_tiny'))
    ]


class TestOutcome:
    def test_a_clear_difference(self, tmp_path):
        a = classifier(tmp_path / 'a', [1] * 900 + [0] * 100)
        b = classifier(tmp_path / 'b', [1] * 500 + [0] * 500, 'swin_tiny')
        found = compare_results(a, b, 'top1', resamples=400)
        assert found.is_told_apart
        # The 400 images of the difference: sqrt(0.4 * 0.6 / 1000) is 1.55 points.
        assert found.difference.value == pytest.approx(40)
        assert found.difference.low == pytest.approx(40 - 1.96 * 1.55, abs=0.6)
        assert re.fullmatch(
            r'dcn_tiny has 40\.0 points more top-1 accuracy than swin_tiny \(90\.0 and 50\.0; 95 % '
            r'interval of the difference \+3\d\.\d to \+4\d\.\d, paired bootstrap of 1,000 images\)\.',
            found.sentence,
        )
        # In whatever order they are given, the difference is that of the better from the other.
        assert compare_results(b, a, 'top1', resamples=400).sentence == found.sentence

    def test_chance(self, tmp_path):
        """Each is right where the other is not on 20 images of 1000: a difference of 0 in the mean."""
        a = classifier(tmp_path / 'a', [1] * 500 + [1] * 20 + [0] * 480)
        b = classifier(tmp_path / 'b', [1] * 500 + [0] * 20 + [1] * 19 + [0] * 461, 'swin_tiny')
        found = compare_results(a, b, 'top1', resamples=400)
        assert not found.is_told_apart
        assert 'cannot be told apart by top-1 accuracy' in found.sentence

    def test_a_model_and_itself(self, detectors):
        for each in compare([detectors[0]], [detectors[0]], resamples=20):
            assert each.difference.value == each.difference.low == each.difference.high == 0
            assert not each.is_told_apart

    def test_every_metric_of_the_tables(self, detectors):
        found = compare([detectors[0]], [detectors[1]], resamples=30)
        for each in found:
            assert each.a.interval.value == pytest.approx(detectors[0].metrics[each.metric], abs=1e-9)
            assert each.b.interval.value == pytest.approx(detectors[1].metrics[each.metric], abs=1e-9)
            assert each.a.interval.low <= each.a.interval.high
        assert [each.metric for each in found][:2] == ['box_AP', 'box_AP50']

    def test_the_same_seed_gives_the_same_figures(self, detectors):
        one, same, other = (
            compare([detectors[0]], [detectors[1]], resamples=30, seed=seed)[0].difference
            for seed in (1, 1, 2)
        )
        assert one == same != other

    def test_pairs_are_closer_than_models_on_other_images(self, detectors):
        """The two see the same easy and hard images: their difference varies less than either alone."""
        found = compare([detectors[0]], [detectors[1]], resamples=200)[0]
        width = {
            name: i.high - i.low
            for name, i in (('a', found.a.interval), ('b', found.b.interval), ('d', found.difference))
        }
        assert width['d'] < math.hypot(width['a'], width['b'])


class TestSeeds:
    def test_the_mean_over_seeds_is_compared(self, tmp_path):
        a = [classifier(tmp_path / f'a{n}', [1] * n + [0] * (100 - n), seed=n) for n in (60, 70)]
        b = [classifier(tmp_path / 'b', [1] * 50 + [0] * 50, 'swin_tiny')]
        found = compare(a, b, resamples=200)[0]
        assert found.a.interval.value == pytest.approx(65)
        assert found.a.spread.deviation == pytest.approx(math.sqrt(50))
        assert found.b.spread.deviation is None

    def test_experiments_are_what_differs_in_the_seed_alone(self, tmp_path):
        runs = [classifier(tmp_path / f'{n}', [1, 0], seed=n) for n in range(3)]
        again = classifier(tmp_path / 'again', [1, 1], seed=1, created='2027-01-01T00:00:00+00:00')
        other = classifier(
            tmp_path / 'other', [1, 0], seed=4, config={'name': 'x', 'sha256': 'e', 'text': ''}
        )
        groups = by_experiment([*runs, again, other])
        assert [[run.seed for run in group] for group in groups] == [[0, 1, 2], [4]]
        assert groups[0][1].path == again.path
        assert spread(groups[0], 'top1').mean == pytest.approx(200 / 3)
        assert spread(groups[1], 'top1').runs == 1
        assert spread(groups[0], 'box_AP') is None


class TestNames:
    def test_are_as_long_as_they_must_be(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0])
        b = classifier(tmp_path / 'b', [1, 0], 'swin_tiny')
        c = classifier(tmp_path / 'c', [1, 0], initialization='x.pth')
        d = classifier(tmp_path / 'd', [1, 0], seed=3)
        assert distinct_names(a, b) == ('dcn_tiny', 'swin_tiny')
        assert distinct_names(a, c) == ('dcn_tiny (None)', 'dcn_tiny (pretrained)')
        assert distinct_names(a, d) == ('dcn_tiny (seed 0)', 'dcn_tiny (seed 3)')
        again = classifier(tmp_path / 'e', [1, 0])
        assert distinct_names(a, again) == (f'dcn_tiny ({tmp_path}/a)', f'dcn_tiny ({tmp_path}/e)')


class TestRefused:
    def test_other_images(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0, 1])
        b = read_result(
            write_result(
                tmp_path / 'b', guesses([1, 0, 1], ['0000.jpg', '0001.jpg', '9.jpg']), 'swin_tiny'
            )
        )
        with pytest.raises(UserError, match=r'other images \(2 are in one alone\)'):
            compare([a], [b], resamples=5)

    def test_other_annotations(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0, 1])
        b = classifier(tmp_path / 'b', [1, 0, 1], 'swin_tiny', data={'sha256': 'other'})
        with pytest.raises(UserError, match='other annotations'):
            compare([a], [b], resamples=5)

    def test_other_tasks(self, tmp_path, detectors):
        with pytest.raises(UserError, match='compare like'):
            compare([classifier(tmp_path / 'c', [1, 0])], [detectors[0]], resamples=5)

    def test_results_without_evidence(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0], evidence=None)
        with pytest.raises(UserError, match='no evidence of its images'):
            load_evidence(a)

    def test_evidence_that_is_gone_or_another(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0])
        b = classifier(tmp_path / 'b', [1, 1])
        (tmp_path / 'a/evidence.npz').unlink()
        with pytest.raises(UserError, match='is missing; keep it beside'):
            load_evidence(a)
        (tmp_path / 'a/evidence.npz').write_bytes(b.evidence.path.read_bytes())
        with pytest.raises(UserError, match='is not the one that'):
            load_evidence(a)

    def test_figures_that_are_not_those_of_the_evidence(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0], metrics={'top1': 51.0, 'top5': 50.0})
        with pytest.raises(UserError, match=r'says top1 is 51\.0, but its evidence says 50\.0'):
            compare([a], [a], resamples=5)

    def test_a_path_out_of_the_folder(self, tmp_path):
        file = write_result(tmp_path / 'a', guesses([1, 0]), 'dcn_tiny')
        content = json.loads(file.read_text())
        content['evidence']['file'] = '../b/evidence.npz'
        file.write_text(json.dumps(content))
        with pytest.raises(UserError, match='not the name of a file beside it'):
            read_result(file)

    def test_metrics_that_evidence_does_not_determine(self):
        for name in ('mIoU', 'box_AR', 'keypoint_AP'):
            with pytest.raises(KeyError):
                metrics_of(instance_evidence(), name)


def test_ends_beside_zero_keep_their_sign():
    assert signed(0.04, 'box_AP') == '+0.04'
    assert signed(-0.003, 'mIoU') == '\N{MINUS SIGN}0.003'
    assert signed(0.0, 'top1') == '+0.0'
    assert signed(-1.26, 'box_AP') == '\N{MINUS SIGN}1.3'
    assert rounded(49.296, 'mIoU') == '49.30'
    assert rounded(1e-9, 'box_AP') == '0.0000'
