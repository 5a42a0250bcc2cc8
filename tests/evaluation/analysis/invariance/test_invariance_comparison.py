"""Models that change as their images do are found to; classifiers get the paper's views."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from evaluation.analysis.invariance.conditions import (
    ROTATION,
    SCALE,
    TRANSLATION,
    Condition,
    choose_conditions,
)
from evaluation.analysis.invariance.prediction_changes import (
    DetectionComparison,
    SegmentationComparison,
    Settings,
    comparison_of,
    window,
)
from evaluation.analysis.invariance.run import curves, measure, split
from evaluation.analysis.parts import combined
from evaluation.analysis.tasks.adapter import Sample
from evaluation.analysis.tasks.classifiers import Classification
from evaluation.analysis.tasks.detectors import Detection, Detections, Objects
from evaluation.analysis.tasks.segmentors import Segmentation

GREY = (128, 128, 128)
COLORS = np.array([[0, 0, 250], [0, 250, 0], [250, 0, 0]], np.uint8)
SIZE = (64, 64)
FILL_COLOR = (250, 250, 250)


class Seer:
    """A subject whose model sees the colour of each pixel."""

    batch = 4

    def __init__(self, task, predict):
        self.task, self._predict = task, predict

    def predict(self, images):
        return [self._predict(image) for image in images]


def nearest_class(image):
    """The class of the nearest colour, (H, W)."""
    distances = np.abs(image[:, :, None].astype(int) - COLORS).sum(-1)
    return distances.argmin(-1).astype(np.uint8)


def scene():
    """Discs of two colours on a ground of the third, and what is where."""
    rows, columns = np.indices(SIZE)
    labels = np.zeros(SIZE, np.uint8)
    labels[(rows - 22) ** 2 + (columns - 20) ** 2 < 100] = 1
    labels[(rows - 40) ** 2 + (columns - 41) ** 2 < 144] = 2
    return COLORS[labels], labels


def found_by_color(image):
    """An object for each colour but the ground's, the fill being no colour."""
    strange = np.abs(image.astype(int) - FILL_COLOR).sum(-1) < 100
    labels = np.where(strange, 0, nearest_class(image))
    masks = [labels == label for label in (1, 2)]
    kept = [index for index, mask in enumerate(masks) if mask.any()]
    codes = [coco_mask.encode(np.asfortranarray(masks[i].astype(np.uint8))) for i in kept]
    sides = np.array([coco_mask.toBbox(c) for c in codes]).reshape(-1, 4)
    boxes = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], 1)
    return Detections(SIZE, np.array(kept, int), np.full(len(kept), 0.9), boxes, codes)


def exact():
    """Conditions that move pixels without mixing them."""
    moved = choose_conditions(['translation'], [0, 8, 24], None, None)
    return [*moved, Condition(ROTATION, 0), Condition(ROTATION, 90), Condition(SCALE, 1)]


def measured(subject, comparison, conditions, sample):
    arrays = split(
        combined([measure(subject, comparison, conditions, sample)] * 2, subject.task.combined)
    )
    return curves(comparison, arrays, conditions)


class TestEquivariantModels:
    def test_segmentor(self):
        image, labels = scene()
        task = Segmentation(3)
        found = measured(
            Seer(task, nearest_class),
            SegmentationComparison(task, GREY),
            exact(),
            Sample('', image, labels),
        )
        for curve in found.values():
            for name in ('mIoU', 'aAcc', 'consistency'):
                assert curve.metrics[name] == pytest.approx([100.0] * len(curve.strengths))
        assert len(found[TRANSLATION].directions) == 8

    def test_segmentor_of_mixed_pixels_is_almost_so(self):
        image, labels = scene()
        task = Segmentation(3)
        conditions = [Condition(ROTATION, 30), Condition(SCALE, 0.5), Condition(SCALE, 1.5)]
        found = measured(
            Seer(task, nearest_class),
            SegmentationComparison(task, GREY),
            conditions,
            Sample('', image, labels),
        )
        for curve in found.values():
            assert min(curve.metrics['consistency']) > 96
            assert min(curve.metrics['mIoU']) > 90

    def test_detector(self):
        image, _ = scene()
        seen = found_by_color(image)
        truth = Objects(SIZE, seen.labels, seen.boxes, np.zeros(2, bool), seen.masks)
        task = Detection()
        comparison = DetectionComparison(task, FILL_COLOR, 0.3)
        found = measured(Seer(task, found_by_color), comparison, exact(), Sample('', image, truth))
        for curve in found.values():
            for name in ('box AP', 'mask AP', 'box consistency', 'mask consistency'):
                assert curve.metrics[name] == pytest.approx([100.0] * len(curve.strengths))

    def test_detector_of_boxes_alone(self):
        image, _ = scene()
        seen = found_by_color(image)
        truth = Objects(SIZE, seen.labels, seen.boxes, np.zeros(2, bool), seen.masks)

        def boxes_alone(image):
            found = found_by_color(image)
            return Detections(SIZE, found.labels, found.scores, found.boxes, None)

        task = Detection()
        conditions = choose_conditions(['translation'], [8], None, None)
        comparison = DetectionComparison(task, FILL_COLOR, 0.3)
        found = measured(Seer(task, boxes_alone), comparison, conditions, Sample('', image, truth))
        assert [*found[TRANSLATION].metrics] == ['box AP', 'box AP50', 'box consistency']
        assert found[TRANSLATION].metrics['box consistency'] == pytest.approx([100.0])

    def test_detector_that_stands_still_is_not(self):
        image, _ = scene()
        seen = found_by_color(image)
        truth = Objects(SIZE, seen.labels, seen.boxes, np.zeros(2, bool), seen.masks)
        task = Detection()
        conditions = choose_conditions(['translation'], [0, 24], None, None)
        comparison = DetectionComparison(task, FILL_COLOR, 0.3)
        found = measured(Seer(task, lambda _: seen), comparison, conditions, Sample('', image, truth))
        assert found[TRANSLATION].metrics['box consistency'][0] == pytest.approx(100.0)
        assert found[TRANSLATION].metrics['box consistency'][1] < 20


class TestClassifierViews:
    def test_unchanged_are_those_of_the_pipeline(self, classifier):
        assert isinstance(classifier.task, Classification)
        comparison = comparison_of(classifier, Settings([], None, 'after', None))
        for sample in classifier.samples:
            for condition in (
                Condition(TRANSLATION, 0),
                Condition(ROTATION, 0),
                Condition(SCALE, 0.875),
            ):
                image = comparison.image(sample, condition)
                np.testing.assert_array_equal(image, sample.image)

    def test_window_moves_over_what_is_around_it(self, classifier):
        """The image is 54 pixels wide, so that three come into view before black does."""
        comparison = comparison_of(classifier, Settings([], None, 'after', None))
        sample = classifier.samples[0]
        moved = comparison.image(sample, Condition(TRANSLATION, 8, 'right'))
        np.testing.assert_array_equal(moved[:, 8:], sample.image[:, :-8])
        assert (moved[:, :5] == 0).all()
        assert moved[:, 5:8].any()

    def test_rotation_before_the_crop_has_fewer_black_corners(self, classifier):
        black = {
            when: (
                comparison_of(classifier, Settings([], None, when, None)).image(
                    classifier.samples[0], Condition(ROTATION, 30)
                )
                == 0
            )
            .all(-1)
            .mean()
            for when in ('before', 'after')
        }
        assert 0 < black['before'] < black['after']

    def test_identity_is_consistent(self, classifier):
        conditions = [Condition(ROTATION, 0), Condition(SCALE, 0.875), Condition(SCALE, 2.0)]
        comparison = comparison_of(classifier, Settings(conditions, 'mean', 'after', None))
        assert comparison.facts['fill'] == [104, 116, 124]
        found = measured(classifier, comparison, conditions, classifier.samples[0])
        assert found[ROTATION].metrics['consistency'] == [100.0]
        assert found[SCALE].metrics['consistency'][0] == 100.0
        entropy = found[SCALE].metrics['cross-entropy']
        assert entropy[0] < entropy[1]

    def test_window_of_a_smaller_image(self):
        image = np.full((3, 4, 3), 9, np.uint8)
        cut = window(image, 8, (1, 0), (1, 1, 1))[..., 0]
        expected = np.ones((8, 8))
        expected[2:5, 3:7] = 9
        np.testing.assert_array_equal(cut, expected)


def test_samples_know_their_files(classifier, tmp_path):
    assert len(classifier.samples) == 3
    assert Path(classifier.samples[0].name).is_file()
    with pytest.raises(IndexError):
        classifier.samples[3]
    assert len(classifier.samples.digest()) == 64
