"""Comparisons of results: outcomes, names, cautions, and invalid input."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest

from evaluation.results.reading import read_result
from evaluation.results.selection import by_experiment, distinct_names, spread
from evaluation.statistics.comparison import compare, rounded, signed, uncertainties
from evaluation.statistics.result_metrics import load_evidence
from evaluation.tables.comparison import comparison_text, errors_text
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.problems import guesses, instance_evidence, write_result
from tests.evaluation.metrics.test_instance_matching import box, evidence_of


def classifier(folder, right, backbone='dcn_tiny', **changes):
    return read_result(write_result(folder, guesses(np.array(right, bool)), backbone, **changes))


def top1(a, b):
    return compare([a], [b], resamples=400)[0]


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
        found = top1(a, b)
        assert found.is_told_apart
        # The 400 images of the difference: sqrt(0.4 * 0.6 / 1000) is 1.55 points.
        assert found.difference.value == pytest.approx(40)
        assert found.difference.low == pytest.approx(40 - 1.96 * 1.55, abs=0.6)
        assert re.fullmatch(
            r'dcn_tiny has 40\.0 points higher top-1 accuracy than swin_tiny \(90\.0 and 50\.0; '
            r'p < 0\.001; 95 % interval of the difference \+3\d\.\d to \+4\d\.\d, 1,000 images\)\.',
            found.sentence,
        )
        # The sentence does not depend on the order of the models: the better one comes first.
        assert top1(b, a).sentence == found.sentence

    def test_chance(self, tmp_path):
        """On 39 of 1000 images only one model is right: 20 images for the first, 19 for the second."""
        a = classifier(tmp_path / 'a', [1] * 500 + [1] * 20 + [0] * 480)
        b = classifier(tmp_path / 'b', [1] * 500 + [0] * 20 + [1] * 19 + [0] * 461, 'swin_tiny')
        found = top1(a, b)
        assert not found.is_told_apart
        assert 'cannot be told apart by top-1 accuracy' in found.sentence

    def test_a_model_and_itself(self, detectors):
        for each in compare([detectors[0]], [detectors[0]], resamples=20):
            assert each.difference.value == each.difference.low == each.difference.high == 0
            assert not each.is_told_apart

    def test_all_metrics_of_tables_are_compared(self, detectors):
        found = compare([detectors[0]], [detectors[1]], resamples=30)
        for each in found:
            assert each.a.interval.value == pytest.approx(detectors[0].metrics[each.metric], abs=1e-9)
            assert each.b.interval.value == pytest.approx(detectors[1].metrics[each.metric], abs=1e-9)
            assert each.a.interval.low <= each.a.interval.high
        assert [each.metric for each in found][:2] == ['box_AP', 'box_AP50']

    def test_the_same_seed_gives_the_same_figures(self, detectors):
        one, same, other = (
            compare([detectors[0]], [detectors[1]], resamples=30, seed=seed)[0] for seed in (1, 1, 2)
        )
        assert one.difference == same.difference != other.difference
        assert one.test == same.test == other.test

    def test_differences_vary_less_than_on_independent_images(self, detectors):
        """Both models see the same easy and hard images, so their difference varies less."""
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

    def test_experiments_group_runs_that_differ_only_in_the_seed(self, tmp_path):
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
    def test_include_only_what_tells_models_apart(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0])
        b = classifier(tmp_path / 'b', [1, 0], 'swin_tiny')
        c = classifier(tmp_path / 'c', [1, 0], initialization='x.pth')
        d = classifier(tmp_path / 'd', [1, 0], seed=3)
        e = classifier(tmp_path / 'e', [1, 0], test_time_augmentation=True)
        assert distinct_names([a], [b]) == ('dcn_tiny', 'swin_tiny')
        assert distinct_names([a], [c]) == ('dcn_tiny (unknown start)', 'dcn_tiny (pretrained)')
        assert distinct_names([a], [d]) == ('dcn_tiny (seed 0)', 'dcn_tiny (seed 3)')
        assert distinct_names([a], [e]) == ('dcn_tiny (without TTA)', 'dcn_tiny (with TTA)')

    def test_show_the_number_of_seeds_for_several_runs(self, tmp_path):
        runs = [classifier(tmp_path / f'{n}', [1, 0], seed=n) for n in range(4)]
        other = [classifier(tmp_path / f'o{n}', [1, 0], 'swin_tiny', seed=n + 5) for n in range(3)]
        assert distinct_names(runs[:3], runs[3:]) == ('dcn_tiny (3 seeds)', 'dcn_tiny (1 seed)')
        assert distinct_names(runs[:3], other) == ('dcn_tiny', 'swin_tiny')
        places = f'dcn_tiny ({tmp_path})', f'dcn_tiny ({tmp_path})'
        assert distinct_names(runs[:2], runs[2:]) == places

    def test_end_with_the_file_if_nothing_else_differs(self, tmp_path):
        a, b = (classifier(tmp_path / name, [1, 0]) for name in 'ab')
        both = tmp_path / 'a/result.json', tmp_path / 'a/again.json'
        b.path.rename(both[1])
        again = read_result(both[1])
        assert distinct_names([a], [again]) == tuple(f'dcn_tiny ({file})' for file in both)


class TestFewImages:
    def test_a_classifier_on_one_image(self, tmp_path):
        a = classifier(tmp_path / 'a', [1])
        b = classifier(tmp_path / 'b', [0], 'swin_tiny')
        found = top1(a, b)
        assert not found.is_told_apart
        assert found.test.p_value == 1
        low = signed(found.difference.low, 'top1')
        assert found.sentence == (
            'dcn_tiny and swin_tiny cannot be told apart by top-1 accuracy (100.0 and 0.0; p = 1.00; '
            f'95 % interval of the difference {low} to +100.0, 1 image).'
        )
        assert found.difference.low < 0
        text = comparison_text([found])
        # The exact interval of 1 out of 1 starts at 0.025.
        assert re.search(r'\| 100\.0 \(2\.5 to 100\.0\) +\|.*\| no \(p = 1\.00\) \|', text)
        assert 'nan' not in text

    def test_a_detector_on_one_image(self, tmp_path):
        objects = [(0, box(0))]
        sides = [
            read_result(write_result(tmp_path / name, evidence_of([(objects, found)]), f'{name}_tiny'))
            for name, found in (('a', [(0, box(0), 0.9)]), ('b', []))
        ]
        found = compare(sides[:1], sides[1:], resamples=30)[0]
        assert not found.is_told_apart
        assert np.isnan([found.difference.low, found.a.interval.low]).all()
        assert '100.0 and 0.0; p = 1.00; 1 image is too few for an interval)' in found.sentence
        assert 'nan' not in comparison_text([found])

    def test_detectors_that_find_nothing(self, tmp_path):
        """Both are wrong on all images, with different scores."""
        truth = [(0, box(0))]
        sides = [
            read_result(
                write_result(
                    tmp_path / name,
                    evidence_of([(truth, [(0, box(500), score)])] * 9),
                    f'{name}_tiny',
                )
            )
            for name, score in (('a', 0.9), ('b', 0.8))
        ]
        found = compare(sides[:1], sides[1:], resamples=30)[0]
        assert not found.is_told_apart
        assert 'no interval, since all resamples of 9 images give the same' in found.sentence

    def test_one_of_three_images_with_objects(self, tmp_path):
        """One of three images has objects, so (2 / 3) ** 3 of the resamples, 30 %, have none."""
        objects, nothing = [(0, box(0))], ([], [])
        found = evidence_of([(objects, [(0, box(0), 0.9)]), nothing, nothing])
        missed = evidence_of([(objects, []), nothing, nothing])
        a = read_result(write_result(tmp_path / 'a', found, 'dcn_tiny'))
        b = read_result(write_result(tmp_path / 'b', missed, 'swin_tiny'))
        found = compare([a], [b], resamples=400)
        assert found[0].difference.value == pytest.approx(100)
        assert found[0].difference.undefined == pytest.approx(400 * (2 / 3) ** 3, abs=40)
        assert not any(each.is_told_apart for each in found)
        assert 'Resamples in which a figure is undefined are excluded' in comparison_text(found)


class TestCautions:
    def test_augmentation_of_one_model(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0, 1, 0])
        b = classifier(tmp_path / 'b', [1, 1, 1, 0], 'swin_tiny', test_time_augmentation=True)
        found = top1(a, b)
        assert 'dcn_tiny (without TTA)' in found.sentence
        assert 'swin_tiny (with TTA)' in found.sentence
        assert 'not due to the models alone' in comparison_text([found])

    def test_annotations_without_a_digest(self, tmp_path):
        unknown = {'data': {'sha256': None}}
        a = classifier(tmp_path / 'a', [1, 0, 1, 0], **unknown)
        b = classifier(tmp_path / 'b', [1, 1, 1, 0], 'swin_tiny', **unknown)
        assert 'unknown whether both were evaluated on the same' in comparison_text([top1(a, b)])
        c = classifier(tmp_path / 'c', [1, 1, 1, 0], 'swin_tiny')
        assert top1(c, c).cautions == ()
        with pytest.raises(UserError, match=r'data\.sha256 of one is null'):
            top1(a, c)


class TestErrors:
    def test_means_over_seeds(self, tmp_path):
        pair = [
            read_result(
                write_result(tmp_path / f'{n}', instance_evidence(20, detector=n), 'x_tiny', seed=n)
            )
            for n in range(2)
        ]
        single = [
            [
                float(cell.split()[0])
                for cell in errors_text(['x'], [[run]]).splitlines()[4].split('|')[3:-1]
            ]
            for run in pair
        ]
        both = errors_text(['x'], [pair])
        found = [float(cell.split()[0]) for cell in both.splitlines()[4].split('|')[3:-1]]
        assert found == pytest.approx(np.mean(single, axis=0), abs=0.101)
        assert 'Means over seeds for models with several seeds.' in both

    def test_a_dash_if_no_object_is_left(self, tmp_path):
        """All objects are missed, so fixing this leaves no class with objects."""
        blind = evidence_of([([(0, box(0))], [])])
        text = errors_text(['x'], [[read_result(write_result(tmp_path / 'x', blind, 'dcn_tiny'))]])
        assert 'nan' not in text
        assert re.search(r'\| +– \(1\) \|', text)
        assert '–: undefined, since fixing this type of error would leave no object' in text


class TestRefused:
    def test_different_images(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0, 1])
        b = read_result(
            write_result(
                tmp_path / 'b', guesses([1, 0, 1], ['0000.jpg', '0001.jpg', '9.jpg']), 'swin_tiny'
            )
        )
        with pytest.raises(UserError, match=r'different images \(2 are in only one of them\)'):
            compare([a], [b], resamples=5)

    @pytest.mark.parametrize('chosen', [[1, 0, 2, 3], [0, 1]])
    def test_different_classes(self, tmp_path, chosen):
        """The digest of the annotations does not depend on the classes used by a config."""
        every = guesses(np.array([1, 0, 1, 1], bool))
        names = ('a', 'b', 'c', 'd')
        records = [
            dataclasses.replace(every, classes=np.array(each))
            for each in (names, [names[number] for number in chosen])
        ]
        a, b = (
            read_result(write_result(tmp_path / name, each, name))
            for name, each in zip(('dcn_tiny', 'swin_tiny'), records, strict=True)
        )
        assert a.data_sha256 == b.data_sha256
        with pytest.raises(UserError, match='different classes, or in a different order'):
            compare([a], [b], resamples=5)
        first, second = uncertainties([a, b], resamples=200).values()
        assert first.is_told_from(second, 'top1') is None

    def test_different_annotations(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0, 1])
        b = classifier(tmp_path / 'b', [1, 0, 1], 'swin_tiny', data={'sha256': 'other'})
        with pytest.raises(UserError, match='different annotations'):
            compare([a], [b], resamples=5)

    def test_different_tasks(self, tmp_path, detectors):
        with pytest.raises(UserError, match='compare results of the same task'):
            compare([classifier(tmp_path / 'c', [1, 0])], [detectors[0]], resamples=5)

    def test_results_without_evidence(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0], evidence=None)
        with pytest.raises(UserError, match='no per-image records'):
            load_evidence(a)

    def test_missing_or_different_evidence(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0])
        b = classifier(tmp_path / 'b', [1, 1])
        (tmp_path / 'a/evidence.npz').unlink()
        with pytest.raises(UserError, match='is missing; keep it next to'):
            load_evidence(a)
        (tmp_path / 'a/evidence.npz').write_bytes(b.evidence.path.read_bytes())
        with pytest.raises(UserError, match='does not match its digest in'):
            load_evidence(a)

    def test_figures_that_contradict_the_evidence(self, tmp_path):
        a = classifier(tmp_path / 'a', [1, 0], metrics={'top1': 51.0, 'top5': 50.0})
        with pytest.raises(UserError, match=r'says top1 is 51\.0, but its records say 50\.0'):
            load_evidence(a)

    def test_a_path_outside_the_folder(self, tmp_path):
        file = write_result(tmp_path / 'a', guesses([1, 0]), 'dcn_tiny')
        content = json.loads(file.read_text())
        content['evidence']['file'] = '../b/evidence.npz'
        file.write_text(json.dumps(content))
        with pytest.raises(UserError, match='not a file name in the same folder'):
            read_result(file)

    def test_metrics_that_evidence_does_not_determine(self):
        for name in ('mIoU', 'box_AR', 'keypoint_AP'):
            with pytest.raises(KeyError):
                instance_evidence().metrics_of(name)


def test_small_differences_keep_their_sign():
    assert signed(0.04, 'box_AP') == '+0.04'
    assert signed(-0.003, 'mIoU') == '\N{MINUS SIGN}0.003'
    assert signed(0.0, 'top1') == '+0.0'
    assert signed(-1.26, 'box_AP') == '\N{MINUS SIGN}1.3'
    assert rounded(49.296, 'mIoU') == '49.30'
    assert rounded(1e-9, 'box_AP') == '0.0000'
    # Rounding error of summing in a different order.
    assert signed(1e-15, 'box_AP') == '+0.0'


class TestBoxesAlone:
    @pytest.fixture
    def pair(self, tmp_path):
        """Return a detector with masks and one without."""
        kinds = (('bbox', 'segm'), ('bbox',))
        return [
            read_result(
                write_result(tmp_path / name, instance_evidence(20, detector=i, kinds=each), name)
            )
            for i, (name, each) in enumerate(zip(('dcn_tiny', 'swin_tiny'), kinds, strict=True))
        ]

    def test_detectors_with_and_without_masks_are_compared_by_boxes(self, pair):
        found = compare(*([each] for each in pair), resamples=200)
        assert [each.metric for each in found] == ['box_AP', 'box_AP50', 'box_AP75']
        text = comparison_text(found)
        assert 'compared by boxes' in text
        assert 'mask AP' not in text

    def test_both_without_masks(self, pair, tmp_path):
        evidence = instance_evidence(20, detector=2, kinds=('bbox',))
        other = read_result(write_result(tmp_path / 'other', evidence, 'halo_tiny'))
        found = compare([pair[1]], [other], resamples=200)
        assert {each.metric.partition('_')[0] for each in found} == {'box'}
        assert not found[0].cautions
        rows = errors_text(['a', 'b'], [[pair[1]], [other]])
        assert '| mask' not in rows

    def test_intervals_cover_only_boxes(self, pair):
        found = uncertainties(pair, resamples=200)
        assert {*found[pair[1].path].intervals} == {'box_AP', 'box_AP50', 'box_AP75'}
        assert found[pair[1].path].is_told_from(found[pair[0].path], 'box_AP') is not None

    def test_mask_figures_without_mask_evidence(self, tmp_path):
        """A result with mask AP but only box evidence is refused."""
        file = write_result(tmp_path / 'a', instance_evidence(20, kinds=('bbox',)), 'dcn_tiny')
        content = json.loads(file.read_text())
        content['metrics'] |= {'mask_AP': 1.0, 'mask_AP50': 1.0, 'mask_AP75': 1.0}
        file.write_text(json.dumps(content))
        with pytest.raises(UserError, match='its records determine box_AP, box_AP50, box_AP75'):
            load_evidence(read_result(file))
