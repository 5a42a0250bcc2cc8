"""Calibration errors compared with sums over single predictions, and on known calibration."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval

from evaluation.metrics import pixel_confidence
from evaluation.metrics.calibration import BINS, DETECTION_BINS, calibration_errors
from evaluation.metrics.class_metrics import AccuracyMetric, SegmentationMetric
from evaluation.metrics.class_records import collect_guesses
from evaluation.metrics.coco_matching import to_coco
from evaluation.metrics.instance_matching import collect_instances
from evaluation.metrics.pixel_confidence import IGNORED, confidence_histogram
from tests.coco_truth import indexed
from tests.evaluation.metrics.test_instance_records import (
    CATEGORIES,
    DETECTIONS,
    IMAGES,
    OBJECTS,
    predictions_of,
    truth_of,
)

# Multiples of 1/75 include the limits of 15 and of 25 bins.
SHARES = st.integers(0, 75).map(lambda number: number / 75)


def expected_error(predictions, bins):
    """Return the calibration error in percent of (confidence, outcome) pairs, bin by bin."""
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        own = [
            (confidence, outcome)
            for confidence, outcome in predictions
            if (low < confidence or number == 0) and confidence <= high
        ]
        if own:
            gap = np.mean([c for c, _ in own]) - np.mean([o for _, o in own])
            total += len(own) / len(predictions) * abs(gap)
    return 100 * total


def classifier(confidence, right):
    names = [f'{number:05}.jpg' for number in range(len(right))]
    guesses = [(0, int(not each), 0 if each else 5) for each in right]
    return collect_guesses(names, guesses, ('a', 'b'), confidence)


def errors_of(evidence):
    return calibration_errors(evidence.calibration(), len(evidence.images))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(SHARES, st.booleans(), st.integers(0, 3)), min_size=1, max_size=30))
def test_classification_on_images_and_resamples(images):
    confidence, right, weights = zip(*images, strict=True)
    # Confidences are stored in single precision, which moves those at the limits of bins.
    stored = np.array(confidence, np.float32).astype(float)
    (part,) = classifier(confidence, right).calibration().values()
    single = [*zip(stored, right, strict=True)]
    once = part.error(np.ones(len(images), np.int64))
    assert once == pytest.approx(expected_error(single, BINS), abs=1e-9)
    again = [pair for pair, times in zip(single, weights, strict=True) for _ in range(times)]
    if again:
        assert part.error(np.array(weights)) == pytest.approx(expected_error(again, BINS), abs=1e-9)
    else:
        assert np.isnan(part.error(np.array(weights)))


def overlap(one, other):
    """Return intersection over union of two boxes (left, top, width, height)."""
    sides = [
        max(0, min(a + w, b + v) - max(a, b))
        for a, w, b, v in zip(one[:2], one[2:], other[:2], other[2:], strict=True)
    ]
    shared = sides[0] * sides[1]
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def left_out(truth, predictions):
    """Return (image, category, score rank) of detections that COCO ignores at an overlap of 0.5."""
    detections = to_coco(predictions, CATEGORIES, 'bbox')
    if not detections:
        return set()
    truth = indexed(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(detections), 'bbox')
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.evaluate()
    everywhere = [*evaluation.params.areaRng[0]]
    return {
        (each['image_id'], each['category_id'], rank)
        for each in evaluation.evalImgs
        if each and [*each['aRng']] == everywhere
        for rank, ignored in enumerate(each['dtIgnore'][0])
        if ignored
    }


def expected_laece(objects, detections):
    """Match one detection after the other by hand, and average the errors of classes with objects."""
    ignored = left_out(truth_of(objects), predictions_of(detections))
    errors = []
    for label, category in enumerate(CATEGORIES):
        pairs = []
        for image in IMAGES:
            free = [box for i, c, box, crowd in objects if (i, c, crowd) == (image, label, 0)]
            own = [(score, box) for i, c, box, score in detections if (i, c) == (image, label)]
            for rank, (score, box) in enumerate(sorted(own, key=lambda pair: -pair[0])):
                if (image, category, rank) in ignored:
                    continue
                # Of equal overlaps, COCO takes the last.
                best = max(range(len(free)), key=lambda i: (overlap(box, free[i]), i), default=None)
                reached = 0.0 if best is None else overlap(box, free[best])
                if reached > 0:
                    free.pop(best)
                pairs.append((score, reached))
        if pairs and any((c, crowd) == (label, 0) for _, c, _, crowd in objects):
            errors.append(expected_error(pairs, DETECTION_BINS))
    return np.mean(errors) if errors else None


@settings(max_examples=200, deadline=None)
@given(OBJECTS, DETECTIONS)
def test_detections_matched_by_hand(objects, detections):
    evidence = collect_instances(indexed(truth_of(objects)), predictions_of(detections), CATEGORIES)
    found, expected = errors_of(evidence), expected_laece(objects, detections)
    # Masks are these boxes.
    for kind in ('box', 'mask'):
        value = found[f'{kind}_LaECE']
        assert value == (None if expected is None else pytest.approx(expected, abs=1e-4))


def naive_histogram(scores, predicted, label, classes):
    """Return pixels, sum of confidences and correct pixels by bin, pixel by pixel."""
    table = np.zeros((BINS, 3))
    for place in np.ndindex(label.shape):
        if label[place] == IGNORED:
            continue
        values = scores[:, place[1], place[2]].double()
        share = values.softmax(0).max() if len(values) > 1 else values[0]
        share = share if len(values) > 1 or predicted[place] else 1 - share
        number = min(int(np.ceil(float(share) * BINS)) - 1, BINS - 1)
        right = predicted[place] == label[place] < classes
        table[max(number, 0)] += [1, float(share), float(right)]
    return table


@pytest.mark.parametrize('channels', [1, 2, 5])
@pytest.mark.parametrize('at_once', [1, 40, 1 << 22])
def test_pixels_one_by_one(channels, at_once, monkeypatch):
    monkeypatch.setattr(pixel_confidence, 'NUMBERS_AT_ONCE', at_once)
    scores = 3 * torch.randn(channels, 7, 9)
    scores = scores.sigmoid() if channels == 1 else scores
    predicted = (scores > 0.4).long() if channels == 1 else scores.argmax(0, keepdim=True)
    label = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 1, 4, IGNORED], (1, 7, 9)))
    classes = max(channels, 2)
    found = confidence_histogram(scores, predicted, label.byte(), classes)
    np.testing.assert_allclose(
        found, naive_histogram(scores, predicted, label, classes), rtol=0, atol=1e-5
    )


def test_a_calibrated_classifier_and_one_that_is_too_confident():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.3, 1, 40_000)
    drawn = random.random(len(confidence))
    # In each of about 11 bins, 40,000 / 11 draws vary by less than 0.8 points.
    calibrated = errors_of(classifier(confidence, drawn < confidence))['ECE']
    assert 0 < calibrated < 1
    above = errors_of(classifier(confidence, drawn < confidence - 0.1))['ECE']
    assert above == pytest.approx(10, abs=0.7)


@pytest.mark.parametrize('offset', [0, 0.2])
def test_detections_whose_score_is_their_overlap(offset):
    """A box in the left part of its object overlaps it by its share of the width."""
    widths = np.arange(10, 81)
    objects = [(IMAGES[i % 3], i % 2, (0, 200 * i, 100, 10), 0) for i in range(len(widths))]
    found = [
        (i, c, (x, y, int(w), h), 0.0)
        for (i, c, (x, y, _, h), _), w in zip(objects, widths, strict=True)
    ]
    scored = [(i, c, box, box[2] / 100 + offset) for i, c, box, _ in found]
    truth = truth_of([])
    for number, (image, label, box, _) in enumerate(objects, start=1):
        entry = {'id': number, 'image_id': image, 'category_id': CATEGORIES[label], 'iscrowd': 0}
        truth['annotations'].append({**entry, 'bbox': [*map(float, box)], 'area': 1000.0})
    predictions = [{k: v for k, v in p.items() if k != 'masks'} for p in boxes_alone(scored)]
    evidence = collect_instances(indexed(truth), predictions, CATEGORIES, ('bbox',))
    assert errors_of(evidence) == {'box_LaECE': pytest.approx(100 * offset, abs=1e-4)}


def boxes_alone(detections):
    for image in IMAGES:
        own = [each for each in detections if each[0] == image]
        corners = [(b[0], b[1], b[0] + b[2], b[1] + b[3]) for _, _, b, _ in own]
        yield {
            'img_id': image,
            'bboxes': np.array(corners, np.float32),
            'scores': np.array([score for *_, score in own], np.float32),
            'labels': np.array([label for _, label, *_ in own]),
        }


def test_a_calibrated_segmentor_and_one_that_is_too_confident():
    share = torch.rand(60, 60).clamp(0.55, 0.99)
    right = torch.rand(60, 60) < share
    metric = SegmentationMetric()
    metric.dataset_meta = {'classes': ('a', 'b')}
    found = {}
    for name, factor in (('calibrated', 1), ('too confident', 3)):
        logits = torch.stack([factor * (share / (1 - share)).log(), torch.zeros_like(share)])
        sample = {
            'pred_sem_seg': {'data': torch.zeros(1, 60, 60, dtype=torch.int64)},
            'gt_sem_seg': {'data': (~right)[None].byte()},
            'seg_logits': {'data': logits},
        }
        metric.process({}, [{**sample, 'img_path': f'/{i}.jpg'} for i in range(2)])
        metric.evaluate(size=2)
        found[name] = errors_of(metric.report.evidence)['ECE']
    gap = ((share**3 / (share**3 + (1 - share) ** 3)) - right.float()).mean()
    assert found['calibrated'] < 5
    assert found['too confident'] == pytest.approx(100 * float(gap), abs=3)
    assert found['too confident'] > 10


def test_metric_of_classes_keeps_the_confidence():
    metric = AccuracyMetric()
    metric.dataset_meta = {'classes': ('a', 'b')}
    scores = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    samples = [
        {'gt_label': torch.tensor(0), 'pred_scores': each, 'img_path': f'/{i}.jpg'}
        for i, each in enumerate(scores)
    ]
    metric.process({}, samples)
    metric.evaluate(size=2)
    assert metric.report.evidence.confidence.tolist() == pytest.approx([0.9, 0.6])
    # The first is right with 0.9, the second is wrong with 0.6.
    assert errors_of(metric.report.evidence)['ECE'] == pytest.approx((10 + 60) / 2, abs=1e-4)


def test_scores_that_are_no_probabilities_have_no_error():
    assert errors_of(classifier([1.5, 0.5], [True, True])) == {'ECE': None}


def test_diagram():
    (part,) = classifier([0.9, 0.92, 0.1], [True, False, True]).calibration().values()
    table = part.diagram()
    assert table.shape == (BINS, 3)
    assert table[13] == pytest.approx([2, 0.91, 0.5])
    assert table[1] == pytest.approx([1, 0.1, 1])
    assert np.isnan(table[np.setdiff1d(np.arange(BINS), [1, 13]), 1:]).all()
