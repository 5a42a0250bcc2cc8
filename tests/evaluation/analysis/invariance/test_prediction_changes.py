"""Comparison of predictions: equivariant models, and the views of classifiers."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as functions

from evaluation.analysis.adapter import Sample
from evaluation.analysis.classifiers import Classification
from evaluation.analysis.detectors import Detection, Detections, Objects
from evaluation.analysis.invariance.conditions import (
    DIRECTIONS,
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
    recentered_window,
    window,
)
from evaluation.analysis.invariance.presentation import curve_table
from evaluation.analysis.invariance.result import read_results, write_result
from evaluation.analysis.invariance.run import analyze, curves, measure, split, summarize
from evaluation.analysis.parts import combined
from evaluation.analysis.segmentors import Segmentation
from evaluation.report.analyses_and_speeds import _read_invariance
from evaluation.utils.errors import UserError

GRAY = (128, 128, 128)
COLORS = np.array([[0, 0, 250], [0, 250, 0], [250, 0, 0]], np.uint8)
SIZE = (64, 64)
FILL_COLOR = (250, 250, 250)


class Seer:
    """A subject whose predictions are a function of the pixels' colors."""

    batch = 4

    def __init__(self, task, predict):
        self.task, self._predict = task, predict

    def predict(self, images):
        return [self._predict(image) for image in images]


def nearest_class(image):
    """Return the class of the nearest color for each pixel, (H, W)."""
    distances = np.abs(image[:, :, None].astype(int) - COLORS).sum(-1)
    return distances.argmin(-1).astype(np.uint8)


def scene():
    """Return an image of discs in two colors on a third, and its label map."""
    rows, columns = np.indices(SIZE)
    labels = np.zeros(SIZE, np.uint8)
    labels[(rows - 22) ** 2 + (columns - 20) ** 2 < 100] = 1
    labels[(rows - 40) ** 2 + (columns - 41) ** 2 < 144] = 2
    return COLORS[labels], labels


def found_by_color(image):
    """Detect an object for each color except the background and the fill color."""
    strange = np.abs(image.astype(int) - FILL_COLOR).sum(-1) < 100
    labels = np.where(strange, 0, nearest_class(image))
    masks = [labels == label for label in (1, 2)]
    kept = [index for index, mask in enumerate(masks) if mask.any()]
    codes = [coco_mask.encode(np.asfortranarray(masks[i].astype(np.uint8))) for i in kept]
    sides = np.array([coco_mask.toBbox(c) for c in codes]).reshape(-1, 4)
    boxes = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], 1)
    return Detections(SIZE, np.array(kept, int), np.full(len(kept), 0.9), boxes, codes)


def exact():
    """Return conditions that move pixels without interpolation."""
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
            SegmentationComparison(task, GRAY),
            exact(),
            Sample('', image, labels),
        )
        for curve in found.values():
            for name in ('mIoU', 'aAcc', 'consistency'):
                assert curve.metrics[name] == pytest.approx([100.0] * len(curve.strengths))
        assert len(found[TRANSLATION].directions) == 8

    def test_segmentor_with_interpolated_pixels(self):
        image, labels = scene()
        task = Segmentation(3)
        conditions = [Condition(ROTATION, 30), Condition(SCALE, 0.5), Condition(SCALE, 1.5)]
        found = measured(
            Seer(task, nearest_class),
            SegmentationComparison(task, GRAY),
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

    def test_detector_without_masks(self):
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

    def test_constant_detector_is_inconsistent(self):
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
    def test_identity_equals_the_pipeline(self, classifier):
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

    def test_window_moves_over_the_uncropped_image(self, classifier):
        """The image is 54 pixels wide, so three more columns come into view before black."""
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


def test_samples_have_files_and_a_digest(classifier, tmp_path):
    assert len(classifier.samples) == 3
    assert Path(classifier.samples[0].name).is_file()
    with pytest.raises(IndexError):
        classifier.samples[3]
    assert len(classifier.samples.digest()) == 64


RELEASED = 'released'
# The seven shifts that can be drawn: rows and columns of the window's center, in units of the strength.
DRAWN = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1)]


def naive_view(image, side, strength, step):
    """Cut a window around a moved center, and center its part inside the image on black."""
    kept = []
    for length, sign in zip(image.shape[:2], step, strict=True):
        middle = length // 2 + sign * strength
        window = range(middle - side // 2, middle + side // 2)
        kept.append([place for place in window if 0 <= place < length])
    rows, columns = kept
    view = np.zeros((side, side, 3), np.uint8)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            view[(side - len(rows)) // 2 + i, (side - len(columns)) // 2 + j] = image[row, column]
    return view


def released_settings(*conditions, rotate=None):
    return Settings(conditions, None, rotate, None, RELEASED)


class TestTranslation:
    def test_seven_directions_are_drawn(self):
        conditions = choose_conditions([TRANSLATION], [0, 8], None, None, RELEASED)
        assert {condition.direction for condition in conditions} == {'', *DIRECTIONS} - {'up-right'}
        moves = {(-down, -right) for right, down in (c.shift for c in conditions[1:])}
        assert moves == {(8 * down, 8 * right) for down, right in DRAWN}
        with pytest.raises(UserError, match="unknown 'up-right'"):
            choose_conditions([TRANSLATION], None, None, ['up-right'], RELEASED)

    @pytest.mark.parametrize('strength', [0, 4, 16, 20, 64])
    def test_content_of_256_pixels_moves_by_at_most_16_before_clipping(self, strength):
        rows = np.arange(1, 257)
        image = np.zeros((256, 300, 3), np.uint8)
        image[..., 0], image[..., 1] = (rows % 250)[:, None], 1 + rows[:, None] // 250
        view = recentered_window(image, 224, (0, -strength))
        band = max(0, strength - 16) // 2 if strength < 64 else 24
        assert (view[:band] == 0).all()
        assert (view[224 - band :] == 0).all()
        # The content's first row in view was 16 above the unmoved window's first.
        moved_by = min(strength, 16) if strength <= 16 else strength - band
        np.testing.assert_array_equal(view[band, 0], image[16 + moved_by + band, 0])
        assert strength != 64 or moved_by == 40

    @pytest.mark.parametrize('shape', [(54, 54), (55, 70), (81, 54), (40, 61), (30, 20)])
    @pytest.mark.parametrize('strength', [0, 3, 8, 24, 100])
    def test_equals_naive_view(self, shape, strength):
        image = np.random.default_rng(0).integers(1, 256, (*shape, 3), np.uint8)
        for down, right in DRAWN:
            found = recentered_window(image, 48, (-right * strength, -down * strength))
            np.testing.assert_array_equal(found, naive_view(image, 48, strength, (down, right)))


class TestOtherViews:
    """Views equal torchvision transforms, composed as in the released code."""

    def test_scale(self, classifier):
        sample = classifier.samples[0]
        comparison = comparison_of(classifier, released_settings())
        for ratio in (0.2, 0.875, 1.45, 1.95):
            chain = transforms.Compose(
                [
                    transforms.Resize(int(48 / ratio), interpolation=InterpolationMode.BICUBIC),
                    transforms.CenterCrop(48),
                ]
            )
            expected = np.asarray(chain(Image.fromarray(sample.original)))
            found = comparison.image(sample, Condition(SCALE, ratio))
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize('when', ['before', 'after'])
    def test_rotation(self, classifier, when):
        sample = classifier.samples[0]
        comparison = comparison_of(classifier, released_settings(rotate=when))
        resized = functions.resize(
            Image.fromarray(sample.original), int(48 / 0.875), InterpolationMode.BICUBIC
        )
        for angle in (0, 35, 90):
            turn = {'angle': angle, 'interpolation': InterpolationMode.BICUBIC}
            if when == 'before':
                expected = functions.center_crop(functions.rotate(resized, **turn), 48)
            else:
                expected = functions.rotate(functions.center_crop(resized, 48), **turn)
            found = comparison.image(sample, Condition(ROTATION, angle))
            np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.fixture(scope='module')
def result(classifier, tmp_path_factory):
    settings = Settings(
        choose_conditions([TRANSLATION], [0, 8, 24], None, None, RELEASED), None, None, None, RELEASED
    )
    file = tmp_path_factory.mktemp('released') / 'here.json'
    return summarize(classifier, settings, analyze(classifier, settings, file))


def test_metrics_equal_naive_version(classifier, result):
    """Metrics are means over images and seven directions, the expected value of the random draw."""
    samples = [classifier.samples[index] for index in range(3)]
    before = classifier.predict([sample.image for sample in samples])
    for index, strength in enumerate([0, 8, 24]):
        agreeing, right, entropy = [], [], []
        for sample, old in zip(samples, before, strict=True):
            resized = functions.resize(
                Image.fromarray(sample.original), int(48 / 0.875), InterpolationMode.BICUBIC
            )
            for step in DRAWN:
                (new,) = classifier.predict([naive_view(np.asarray(resized), 48, strength, step)])
                agreeing.append(new.argmax() == old.argmax())
                right.append(new.argmax() == sample.truth)
                target = np.exp(old) / np.exp(old).sum()
                entropy.append(-(target * np.log(np.exp(new) / np.exp(new).sum())).sum())
        metrics = result.curves[TRANSLATION].metrics
        assert metrics['consistency'][index] == pytest.approx(100 * np.mean(agreeing))
        assert metrics['top-1'][index] == pytest.approx(100 * np.mean(right))
        assert metrics['cross-entropy'][index] == pytest.approx(np.mean(entropy), rel=1e-5)


def test_protocol_is_recorded_and_named(result, tmp_path):
    file = tmp_path / 'invariance.json'
    write_result(result, file)
    content = json.loads(file.read_text())
    assert content['settings']['protocol'] == RELEASED
    assert [*content['columns']['figures']] == ['translation consistency (released protocol)']
    assert content['columns']['note'].startswith('Consistency (released protocol): ')
    (read,) = read_results([file])
    assert read.protocol == RELEASED
    assert curve_table([read]).title == 'Invariance, classification (released protocol)'
    _, shown = _read_invariance(file)
    assert shown['shown'] == ['top-1 (released protocol)', 'consistency (released protocol)']
    assert [*shown['curves'][TRANSLATION]['metrics']] == shown['shown']


def test_protocols_are_not_compared(result, tmp_path):
    from tools.analyze_invariance import compare

    files = [tmp_path / 'released.json', tmp_path / 'ours.json']
    write_result(result, files[0])
    settings = {key: value for key, value in result.settings.items() if key != 'protocol'}
    write_result(dataclasses.replace(result, settings=settings), files[1])
    with pytest.raises(UserError, match=r'ours\.json uses protocol suite, .* uses released; compare'):
        compare(files, tmp_path / 'both.png')
    assert not (tmp_path / 'both.png').exists()


def test_settings_that_the_protocol_does_not_support(classifier):
    with pytest.raises(UserError, match='released fills with black; remove --fill mean'):
        comparison_of(classifier, Settings([], 'mean', None, None, RELEASED))
    task = dataclasses.make_dataclass('Task', ['name'])('detection')
    other = dataclasses.make_dataclass('Other', ['task'])(task)
    with pytest.raises(UserError, match='only for classifiers, but the task of the model is detection'):
        comparison_of(other, released_settings())
