"""Intervals compared with closed forms, and metrics on resamples with direct computation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from evaluation.metrics.class_metrics import IGNORED, SegmentationMetric, count_pairs
from evaluation.metrics.class_records import collect_confusion, collect_guesses
from evaluation.metrics.instance_records import average_precision
from evaluation.statistics.bootstrap import (
    check_resamples,
    draw,
    expanded_tail,
    figure_interval,
    interval,
    resample,
    share_difference_interval,
    share_interval,
)
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.problems import instance_evidence

CLASSES = ('wall', 'sky', 'tree')


def classifier(right):
    """Return top-1 and top-5 accuracy of a classifier that is right on some images."""
    names = [f'{number:05}.jpg' for number in range(len(right))]
    guesses = [(0, int(not r), 0 if r else 5) for r in right]
    return collect_guesses(names, guesses, CLASSES).metrics_of('top1')


class TestKnownProportions:
    @pytest.mark.parametrize('share', [0.5, 0.8, 0.95])
    def test_interval_of_an_accuracy(self, share):
        """The standard error of a proportion is sqrt(p (1 - p) / n)."""
        images = 4000
        right = np.arange(images) < share * images
        (whole,), (samples,) = resample([classifier(right)], images, 2000, seed=1)
        found = interval(whole['top1'], samples['top1'], images)
        error = 100 * math.sqrt(share * (1 - share) / images)
        assert found.value == pytest.approx(100 * share, abs=1e-12)
        # Ends of an interval from 2000 resamples scatter by about 5 % of its half width.
        assert found.high - found.value == pytest.approx(1.96 * error, rel=0.15)
        assert found.value - found.low == pytest.approx(1.96 * error, rel=0.15)

    def test_interval_of_a_paired_difference(self):
        """With b and c of n images right in only one model: variance (b + c - (b - c)^2 / n) / n^2."""
        images, only_a, only_b = 3000, 180, 120
        a = np.arange(images) < 2000 + only_a
        b = (np.arange(images) < 2000) | (np.arange(images) >= images - only_b)
        whole, samples = resample([classifier(a), classifier(b)], images, 2000, seed=2)
        found = interval(
            whole[0]['top1'] - whole[1]['top1'], samples[0]['top1'] - samples[1]['top1'], images
        )
        variance = (only_a + only_b - (only_a - only_b) ** 2 / images) / images**2
        assert found.value == pytest.approx(100 * (only_a - only_b) / images, abs=1e-9)
        for end in (found.low, found.high):
            assert abs(end - found.value) == pytest.approx(196 * math.sqrt(variance), rel=0.15)

    def test_intervals_have_the_nominal_coverage(self):
        images, share, trials = 150, 0.7, 200
        random = np.random.default_rng(3)
        hits = 0
        for trial in range(trials):
            right = random.random(images) < share
            (whole,), (samples,) = resample([classifier(right)], images, 300, seed=trial)
            found = interval(whole['top1'], samples['top1'], images)
            hits += found.low <= 100 * share <= found.high
        # Four standard errors of a binomial share of 0.95.
        assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_bias_of_the_resamples_does_not_shift_the_interval():
    samples = 7 + stats.norm.ppf((np.arange(20000) + 0.5) / 20000)
    found = interval(5.0, samples, 10**6)
    assert (found.low, found.high) == (pytest.approx(3.04, abs=0.01), pytest.approx(6.96, abs=0.01))


def test_intervals_of_ap_cover_the_expected_ap():
    """Samples of 60 out of 600 images have intervals that cover the expected AP of such samples.

    AP on 60 images is higher on average than on 600, so the expected value is the mean AP on 60 images.
    """
    population = instance_evidence(600, 30, 3, seed=5)
    random = np.random.default_rng(0)
    figures = average_precision(population, 'box')
    chosen = [random.choice(600, 60, replace=False) for _ in range(120)]
    values, hits = [], []
    for number, images in enumerate(chosen):
        metric = restricted(figures, images, 600)
        (whole,), (samples,) = resample([metric], 60, 150, seed=number)
        values.append(whole['box_AP'])
        hits.append(interval(whole['box_AP'], samples['box_AP'], 60))
    truth = np.mean(values)
    covered = np.mean([each.low <= truth <= each.high for each in hits])
    # Without replacement, figures vary by sqrt(0.9) of what the intervals assume.
    assert 0.88 <= covered <= 1


def restricted(metric, images, population):
    """Restrict a metric to some images of a population."""

    def evaluate(weights):
        whole = np.zeros(population, np.int64)
        whole[images] = weights
        return metric(whole)

    return evaluate


def test_figures_stay_between_0_and_100():
    samples = 3 + stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    assert figure_interval('box_AP', 0.5, samples, 10**6).low == 0
    assert figure_interval('mIoU', 99.5, samples, 10**6).high == 100
    assert interval(0.5, samples, 10**6).low == pytest.approx(0.5 - 1.96, abs=0.01)
    assert np.isnan(figure_interval('box_AP', np.nan, samples, 10**6).low)


class TestShares:
    """Compared with scipy and with values computed by hand."""

    @pytest.mark.parametrize(('right', 'images'), [(0, 20), (20, 20), (7, 20), (1, 1), (49_000, 50_000)])
    def test_interval_is_exact(self, right, images):
        found = share_interval(100 * right / images, images)
        expected = stats.binomtest(right, images).proportion_ci(method='exact')
        assert (found.low, found.high) == pytest.approx((100 * expected.low, 100 * expected.high))

    def test_zero_of_20_images(self):
        found = figure_interval('top1', 0.0, np.zeros(9), 20)
        assert (found.low, found.high) == (0.0, pytest.approx(16.84, abs=0.005))

    def test_difference_computed_by_hand(self):
        """Of 20 images, 3 are right only in the first model, 1 only in the second (Agresti and Min)."""
        differences = np.array([1, 1, 1, -1] + [0] * 16)
        found = share_difference_interval(differences)
        deviation = math.sqrt((3.5 + 1.5 - (3.5 - 1.5) ** 2 / 22) / 22**2)
        assert found.value == pytest.approx(10)
        assert found.low == pytest.approx(100 * (2 / 22 - 1.959964 * deviation))
        assert found.high == pytest.approx(100 * (2 / 22 + 1.959964 * deviation))

    @pytest.mark.parametrize('differences', [np.zeros(20), np.ones(20)])
    def test_an_interval_exists_if_no_or_all_images_differ(self, differences):
        found = share_difference_interval(differences)
        assert found.high - found.low > 5
        assert -100 <= found.low <= found.value <= found.high <= 100


def test_few_images_widen_an_interval():
    """The mean of n normal samples has an interval from Student's distribution."""
    samples = stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    for images in (5, 20, 1000):
        found = interval(0.0, samples, images)
        expected = stats.t.ppf(0.975, images - 1) * math.sqrt(images / (images - 1))
        assert found.high == pytest.approx(expected, rel=1e-2)
    assert expanded_tail(10**7) == pytest.approx(0.025, rel=1e-4)


def test_undefined_figures_have_no_interval():
    assert np.isnan(interval(np.nan, np.ones(5), 9).low)
    assert np.isnan(interval(3.0, np.full(5, np.nan), 9).high)


def test_no_interval_if_over_5_percent_of_resamples_are_undefined():
    samples = np.arange(100.0)
    samples[:5] = np.nan
    found = interval(52.0, samples, 10**7)
    assert (found.undefined, found.low) == (5, pytest.approx(5 + 0.025 * 94))
    samples[5] = np.nan
    found = interval(52.5, samples, 10**7)
    assert found.undefined == 6
    assert np.isnan([found.low, found.high]).all()


def test_identical_resamples_have_no_interval():
    for value in (0.0, 3.0):
        found = interval(value, np.full(9, value), 48)
        assert np.isnan([found.low, found.high]).all()


def test_draws_depend_only_on_seed_and_number():
    assert np.array_equal(draw(50, 1, 2), draw(50, 1, 2))
    assert not np.array_equal(draw(50, 1, 2), draw(50, 1, 3))
    assert not np.array_equal(draw(50, 1, 2), draw(50, 2, 2))
    assert draw(50, 0, 0).sum() == 50


@pytest.mark.parametrize('number', [0, -1, 199, 10**9])
def test_resamples_out_of_range_are_refused(number):
    with pytest.raises(UserError, match='--resamples'):
        check_resamples(number)


MAPS = arrays.arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2]))
LABELS = arrays.arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 7, IGNORED]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(MAPS, LABELS), min_size=3, max_size=3),
    st.lists(st.integers(0, 3), min_size=3, max_size=3),
)
def test_mean_iou_of_a_resample_equals_that_of_its_images(pairs, weights):
    if not any(weights):
        return
    pixels = [
        count_pairs(torch.from_numpy(predicted).long(), torch.from_numpy(label), len(CLASSES))
        for predicted, label in pairs
    ]
    evidence = collect_confusion(['b', 'a', 'c'], pixels, CLASSES)
    metric = SegmentationMetric()
    metric.dataset_meta = {'classes': CLASSES}
    # Sorted by name.
    for place, times in zip((1, 0, 2), weights, strict=True):
        predicted, label = pairs[place]
        sample = {
            'pred_sem_seg': {'data': torch.from_numpy(predicted).long()},
            'gt_sem_seg': {'data': torch.from_numpy(label)},
        }
        metric.process({}, [sample] * times)
    expected = metric.evaluate(size=sum(weights))
    found = evidence.metrics_of('mIoU')(np.array(weights))
    assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
