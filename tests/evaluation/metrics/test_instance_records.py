"""Average precision from evidence compared with pycocotools, on original images and resamples."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from evaluation.benchmark.evaluator_speed import generate_problem
from evaluation.metrics.coco_matching import KINDS, to_coco
from evaluation.metrics.instance_matching import collect_instances
from evaluation.metrics.instance_records import average_precision
from tests.coco_truth import indexed

SIZE = 120
IMAGES, CATEGORIES = (4, 9, 11), (7, 2, 5)
STATISTICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
AREAS = ('all', 'small', 'medium', 'large')

# Few places and sizes, so that many boxes overlap, some exactly at a threshold or area limit.
SIDES = st.sampled_from([(10, 20), (20, 20), (20, 15), (32, 32), (33, 32), (96, 96), (97, 96)])
BOXES = st.builds(
    lambda left, top, sides: (left, top, *sides),
    st.sampled_from([0, 3, 10]),
    st.sampled_from([0, 5]),
    SIDES,
)
# Three scores, so that many are equal.
SCORES = st.sampled_from([0.25, 0.5, 0.75])
OBJECTS = st.lists(
    st.tuples(st.sampled_from(IMAGES), st.integers(0, 2), BOXES, st.sampled_from([0, 0, 0, 1])),
    max_size=10,
)
DETECTIONS = st.lists(st.tuples(st.sampled_from(IMAGES), st.integers(0, 2), BOXES, SCORES), max_size=20)


def code_of(box):
    left, top, width, height = box
    mask = np.zeros((SIZE, SIZE), np.uint8, order='F')
    mask[top : top + height, left : left + width] = 1
    return coco_mask.encode(mask)


def truth_of(objects):
    return {
        'images': [{'id': image, 'height': SIZE, 'width': SIZE} for image in IMAGES],
        'categories': [{'id': category, 'name': f'class {category}'} for category in CATEGORIES],
        'annotations': [
            {
                'id': number,
                'image_id': image,
                'category_id': CATEGORIES[label],
                'bbox': list(map(float, box)),
                'segmentation': code_of(box),
                'area': float(box[2] * box[3]),
                'iscrowd': crowd,
            }
            for number, (image, label, box, crowd) in enumerate(objects, start=1)
        ],
    }


def predictions_of(detections):
    """Return predictions in the format of `InstanceMetric`."""
    predictions = []
    for image in IMAGES:
        own = [one for one in detections if one[0] == image]
        corners = [(b[0], b[1], b[0] + b[2], b[1] + b[3]) for _, _, b, _ in own]
        predictions.append(
            {
                'img_id': image,
                'bboxes': np.array(corners, np.float32).reshape(-1, 4),
                'scores': np.array([score for *_, score in own], np.float32),
                'labels': np.array([label for _, label, *_ in own], np.int64),
                'masks': [code_of(box) for _, _, box, _ in own],
            }
        )
    return predictions


def by_pycocotools(truth, predictions, categories, kind):
    """Return the first six statistics in percent; NaN if undefined."""
    truth = indexed(truth)
    with contextlib.redirect_stdout(io.StringIO()):
        detections = to_coco(predictions, categories, kind)
        found = (
            truth.loadRes(detections) if detections else indexed({**truth.dataset, 'annotations': []})
        )
        evaluation = COCOeval(truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.where(evaluation.stats[:6] < 0, np.nan, 100 * evaluation.stats[:6])


def by_evidence(evidence, name, weights):
    found = {}
    for area in AREAS:
        found |= average_precision(evidence, name, area)(weights)
    return [found[f'{name}_{statistic}'] for statistic in STATISTICS]


def drawn_again(truth, predictions, weights):
    """Return the problem with each image repeated `weights` times, copies one after another."""
    images, annotations, copies = [], [], []
    for prediction, times in zip(predictions, weights, strict=True):
        (entry,) = (image for image in truth['images'] if image['id'] == prediction['img_id'])
        for _ in range(times):
            number = len(images) + 1
            images.append({**entry, 'id': number})
            copies.append({**prediction, 'img_id': number})
            for annotation in truth['annotations']:
                if annotation['image_id'] == prediction['img_id']:
                    annotations.append({**annotation, 'id': len(annotations) + 1, 'image_id': number})
    return {**truth, 'images': images, 'annotations': annotations}, copies


@settings(max_examples=150, deadline=None)
@given(OBJECTS, DETECTIONS)
def test_crowds_ties_and_borders(objects, detections):
    truth, predictions = truth_of(objects), predictions_of(detections)
    evidence = collect_instances(indexed(truth), predictions, CATEGORIES)
    for kind, name in KINDS.items():
        expected = by_pycocotools(truth, predictions, CATEGORIES, kind)
        found = by_evidence(evidence, name, np.ones(3, np.int64))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@settings(max_examples=80, deadline=None)
@given(OBJECTS, DETECTIONS, st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_resampled_images_equal_a_new_evaluation(objects, detections, weights):
    truth, predictions = truth_of(objects), predictions_of(detections)
    evidence = collect_instances(indexed(truth), predictions, CATEGORIES)
    again = drawn_again(truth, predictions, weights)
    for kind, name in KINDS.items():
        expected = by_pycocotools(*again, CATEGORIES, kind)
        found = by_evidence(evidence, name, np.array(weights))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize('seed', range(2))
def test_many_classes_and_detections(seed):
    """Only 100 of more than 100 detections of a class in an image count, also in resamples."""
    problem = generate_problem(images=10, detections=400, classes=3 + 20 * seed, seed=seed)
    ids = [category['id'] for category in problem.truth['categories']]
    evidence = collect_instances(indexed(problem.truth), problem.predictions, ids)
    random = np.random.default_rng(seed)
    for weights in (np.ones(10, np.int64), np.bincount(random.integers(10, size=10), minlength=10)):
        again = drawn_again(problem.truth, problem.predictions, weights)
        for kind, name in KINDS.items():
            expected = by_pycocotools(*again, ids, kind)
            np.testing.assert_allclose(by_evidence(evidence, name, weights), expected, rtol=0, atol=1e-9)


def test_no_detections_and_no_objects():
    truth, predictions = truth_of([]), predictions_of([])
    evidence = collect_instances(indexed(truth), predictions, CATEGORIES)
    assert np.isnan(by_evidence(evidence, 'mask', np.ones(3, np.int64))).all()
