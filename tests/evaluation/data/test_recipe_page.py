"""Schedules of recipes for data sets of users."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.data.recipe_page import detection_schedule, segmentation_schedule

images = st.integers(1, 300_000)


@pytest.mark.parametrize(
    ('count', 'epochs', 'warm_up'),
    [(2, 96, 9), (1_000, 96, 604), (16_000, 12, 1000), (117_266, 12, 1000)],
)
def test_detection(count, epochs, warm_up):
    """The last is COCO, whose 1x schedule it is."""
    schedule = detection_schedule(count)
    assert (schedule.length, schedule.warm_up) == (epochs, warm_up)
    assert schedule.interval == epochs // 12


@pytest.mark.parametrize(
    ('count', 'iterations', 'warm_up'),
    [(2, 2_000, 200), (250, 2_000, 200), (1_000, 8_000, 800), (20_210, 160_000, 1500)],
)
def test_segmentation(count, iterations, warm_up):
    """The last is ADE20K, whose schedule of 160,000 iterations it is."""
    schedule = segmentation_schedule(count)
    assert (schedule.length, schedule.warm_up) == (iterations, warm_up)


@given(images, images)
def test_more_images_need_no_shorter_training(one, other):
    small, large = sorted([one, other])
    assert segmentation_schedule(small).length <= segmentation_schedule(large).length
    assert detection_schedule(small).length >= detection_schedule(large).length


@given(images)
def test_evaluations_divide_the_training(count):
    for schedule in (detection_schedule(count), segmentation_schedule(count)):
        assert schedule.length % schedule.interval == 0
        assert 1 <= schedule.warm_up < schedule.length * max(count / 16, 1)
