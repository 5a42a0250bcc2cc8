"""Paired test compared with closed forms, a naive implementation, and simulated models."""

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.metrics.class_records import SegmentationEvidence
from evaluation.results.reading import read_result
from evaluation.statistics.comparison import compare, p_value_text
from evaluation.statistics.randomization import (
    MOST_ENUMERATED,
    PairedTest,
    balanced_pairs,
    differing_images,
    joined,
    paired_tests,
    sign_flip_p_value,
    swap_weights,
)
from evaluation.statistics.result_metrics import metric_of
from tests.evaluation.metrics.problems import guesses, instance_evidence, write_result
from tests.evaluation.statistics.simulation import (
    CLASSES,
    DOCS,
    SCENARIOS,
    Scenario,
    classifiers,
    detectors,
    merged,
    rates,
    segmentors,
    value,
)

SIMULATED = {'mIoU': segmentors, 'box_AP': detectors()}


def simulated(metric, images, seed):
    return SIMULATED[metric](images, np.random.default_rng(seed))


def outcome_of(metric, a, b):
    return paired_tests([metric], [a], [b])[metric]


class TestSigns:
    @given(st.integers(0, 40), st.integers(0, 40))
    def test_one_run_per_model_is_mcnemars_exact_test(self, ours, theirs):
        differences = np.array([1] * ours + [-1] * theirs + [0] * 5)
        expected = stats.binomtest(ours, ours + theirs).pvalue if ours + theirs else 1
        assert sign_flip_p_value(differences) == pytest.approx(expected, rel=1e-9)

    @given(st.lists(st.integers(-6, 6), max_size=10))
    def test_several_runs_equal_an_enumeration_of_signs(self, differences):
        differences = np.array(differences, np.int64)
        sums = [abs(np.dot(signs, differences)) for signs in product((1, -1), repeat=len(differences))]
        expected = np.mean(np.array(sums) >= abs(differences.sum()))
        assert sign_flip_p_value(differences) == pytest.approx(expected, rel=1e-9)

    def test_many_images(self):
        """Central limit theorem: 50,000 images, of which 10,000 differ in 1 or 2 of 3 runs."""
        differences = np.repeat([0, 1, -1, 2, -2], [40_000, 4100, 3900, 1010, 990])
        z = differences.sum() / np.sqrt((differences**2).sum())
        assert sign_flip_p_value(differences) == pytest.approx(2 * stats.norm.sf(z), rel=0.05)


class TestOneImage:
    """Two models that differ on one image are never told apart, for any seed."""

    @pytest.mark.parametrize('images', [20, 48, 120, 5000])
    def test_classifiers(self, images):
        a, b = guesses([1] * images), guesses([0] + [1] * (images - 1))
        assert outcome_of('top1', a, b) == PairedTest(1.0, False, 0, 1)

    @pytest.mark.parametrize('metric', SIMULATED)
    def test_dense(self, metric):
        first, _, third = simulated(metric, 48, 0)
        for place in (3, 17, 40):
            other = replaced(first, third, [place])
            found = outcome_of(metric, first, other)
            assert found == PairedTest(1.0, False, 0, found.differing)
            assert found.differing <= 1

    def test_the_outcome_does_not_depend_on_the_seed(self, tmp_path):
        sides = [
            read_result(write_result(tmp_path / name, guesses(right), f'{name}_tiny'))
            for name, right in (('dcn', [1] * 120), ('swin', [0] + [1] * 119))
        ]
        found = [compare(sides[:1], sides[1:], resamples=10, seed=seed)[0] for seed in range(40)]
        assert {each.is_told_apart for each in found} == {False}
        assert len({each.sentence for each in found}) == 1


class TestFewImages:
    @pytest.mark.parametrize(('differing', 'told'), [(5, False), (6, True)])
    def test_six_differing_images_are_the_minimum(self, differing, told):
        a, b = guesses([1] * 1000), guesses([0] * differing + [1] * (1000 - differing))
        assert outcome_of('top1', a, b).is_told_apart == told

    @pytest.mark.parametrize('metric', SIMULATED)
    def test_five_images_never_tell_models_apart(self, metric):
        for seed in range(10):
            first, _, third = simulated(metric, 20, seed)
            other = replaced(first, third, range(5))
            found = outcome_of(metric, first, other)
            assert found.differing <= 5
            assert found.p_value >= 2**-4
            assert not found.is_told_apart


def replaced(first, other, places):
    """Return the first model with the other's predictions on some images."""
    chosen = np.isin(np.arange(len(first.images)), places)
    if not isinstance(first, SegmentationEvidence):
        return merged(first, other, chosen)
    kept = [~chosen[first.image], chosen[other.image]]
    columns = [
        np.concatenate([getattr(first, name)[kept[0]], getattr(other, name)[kept[1]]])
        for name in ('image', 'label', 'predicted', 'pixels')
    ]
    return SegmentationEvidence(first.images, CLASSES, *columns)


@pytest.mark.parametrize('metric', SIMULATED)
class TestSwaps:
    def test_a_swapped_model_has_the_predictions_of_the_other(self, metric):
        first, second, _ = simulated(metric, 30, 1)
        together = metric_of(joined(first, second), [metric])
        for seed in range(5):
            swapped = np.random.default_rng(seed).random(30) < 0.5
            ours, theirs = (together(weights)[metric] for weights in swap_weights(swapped))
            places = np.flatnonzero(swapped)
            assert ours == pytest.approx(value(metric, replaced(first, second, places)), abs=1e-9)
            assert theirs == pytest.approx(value(metric, replaced(second, first, places)), abs=1e-9)

    def test_few_images_equal_an_enumeration_of_swaps(self, metric):
        first, _, third = simulated(metric, 20, 2)
        other = replaced(first, third, [2, 5, 11, 13, 19, 0, 7])
        places = np.flatnonzero(differing_images(first, other))
        observed = value(metric, first) - value(metric, other)
        exceeding = 0
        for chosen in product((False, True), repeat=len(places)):
            swapped = places[list(chosen)]
            ours, theirs = replaced(first, other, swapped), replaced(other, first, swapped)
            exceeding += abs(value(metric, ours) - value(metric, theirs)) >= abs(observed) - 1e-9
        found = outcome_of(metric, first, other)
        assert found.differing == len(places) <= MOST_ENUMERATED
        assert found.p_value == pytest.approx(exceeding / 2 ** len(places))
        assert found.swaps == 0

    def test_the_order_of_the_models_does_not_matter(self, metric):
        first, second, _ = simulated(metric, 40, 3)
        assert outcome_of(metric, first, second) == outcome_of(metric, second, first)

    def test_a_clear_difference_takes_few_swaps(self, metric):
        first, _, third = simulated(metric, 1000, 4)
        found = outcome_of(metric, first, third)
        assert found.is_told_apart
        assert found.swaps <= 500
        assert found.p_value < 0.05

    def test_a_model_and_itself(self, metric):
        first, _, _ = simulated(metric, 20, 5)
        assert outcome_of(metric, first, first) == PairedTest(1.0, False, 0, 0)


def test_the_scale_of_scores_does_not_matter():
    first, second, _ = simulated('box_AP', 60, 6)
    rescaled = type(second)(**{**vars(second), 'detection_score': second.detection_score**9 / 50})
    assert outcome_of('box_AP', first, rescaled) == outcome_of('box_AP', first, second)


def test_ranks_do_not_change_figures():
    a, b = instance_evidence(20), instance_evidence(20, detector=1)
    once = np.ones(20, bool)
    names = ['box_AP', 'box_AP50', 'mask_AP', 'mask_AP75']
    for by_rank in (False, True):
        together = metric_of(joined(a, b, by_rank), names)
        for evidence, weights in zip((b, a), swap_weights(once), strict=True):
            expected = metric_of(evidence, names)(np.ones(20, np.int64))
            found = together(weights)
            assert {name: found[name] for name in names} == pytest.approx(
                {name: expected[name] for name in names}, abs=1e-9
            )


def test_an_undefined_metric_has_no_test():
    first, second, _ = simulated('box_AP', 3, 7)
    without = [
        type(each)(
            **{
                **vars(each),
                'object_image': each.object_image[:0],
                'object_class': each.object_class[:0],
                'object_counts': each.object_counts[:0],
            }
        )
        for each in (first, second)
    ]
    assert outcome_of('box_AP', *without) is None


class TestSeeds:
    def test_each_run_is_paired_equally_often(self):
        assert balanced_pairs('ab', 'xyz') == [
            tuple(pair) for pair in ('ax', 'by', 'az', 'bx', 'ay', 'bz')
        ]
        assert balanced_pairs('abc', 'xyz') == [('a', 'x'), ('b', 'y'), ('c', 'z')]

    @pytest.mark.parametrize('metric', SIMULATED)
    def test_means_over_seeds_are_compared(self, metric):
        """Three identical runs against two give the same result as one run against one."""
        runs = [simulated(metric, 60, 8)[0], simulated(metric, 60, 8)[2]]
        found = paired_tests([metric], [runs[1]] * 3, [runs[0]] * 2)[metric]
        single = paired_tests([metric], [runs[1]], [runs[0]])[metric]
        assert found == single

    def test_mean_shares_of_several_runs(self):
        """The mean over two runs is better by half on each of 8 images: 2 of 256 sign patterns."""
        a = [guesses([1] * 8), guesses([1] * 8)]
        b = [guesses([1, 0] * 4), guesses([0, 1] * 4)]
        found = paired_tests(['top1'], a, b)['top1']
        assert found == PairedTest(pytest.approx(2 / 256), True, 0, 8)


class TestSimulation:
    """Short version of the table in docs/results.md; the bounds allow for the small number of trials."""

    @pytest.mark.parametrize(
        'scenario',
        [
            Scenario('top1', 20, classifiers(0.9)),
            Scenario('mIoU', 20, segmentors),
            Scenario('box_AP', 20, detectors()),
            Scenario('box_AP', 48, detectors(0.1)),
        ],
        ids=lambda scenario: f'{scenario.metric}-{scenario.images}',
    )
    def test_equal_models_are_rarely_told_apart(self, scenario):
        found = rates(scenario, trials=40, resamples=200, images_of_truth=4000)
        # 5 % of 40 trials are 2; more than 7 occur once in 2,000.
        assert found.false_positives <= 7 / 40
        assert found.figure_covered >= 0.8

    def test_table_in_the_docs(self):
        rows = [
            [cell.strip() for cell in line.split('|')[1:-1]]
            for line in DOCS.read_text().split('<!-- simulation -->')[1].splitlines()
            if re.match(r'\| (top-1|mIoU|box AP)', line)
        ]
        assert [int(row[1].replace(',', '')) for row in rows] == [each.images for each in SCENARIOS]
        assert all(float(row[2].removesuffix(' %')) <= 6 for row in rows)


@pytest.mark.parametrize(
    ('p_value', 'told', 'text'),
    [
        (1e-5, True, 'p < 0.001'),
        (0.0044, True, 'p = 0.004'),
        (0.031, True, 'p = 0.03'),
        (0.05, True, 'p = 0.05'),
        (0.0504, False, 'p = 0.050'),
        (0.32, False, 'p = 0.32'),
        (1.0, False, 'p = 1.00'),
    ],
)
def test_text_of_p_values(p_value, told, text):
    assert p_value_text(PairedTest(p_value, told, 0, 9)) == text


def test_p_value_is_a_bound_if_no_swap_reaches_the_difference():
    assert p_value_text(PairedTest(1 / 201, True, 200, 99)) == 'p ≤ 0.005'
    assert p_value_text(PairedTest(2 / 201, True, 200, 99)) == 'p = 0.01'
