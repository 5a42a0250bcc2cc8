"""Average precision from per-image matches agrees with pycocotools."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO

from evaluation.analysis.detectors import Detection, Detections, Objects
from evaluation.analysis.parts import combined
from evaluation.benchmark.evaluator_speed import generate_problem
from evaluation.metrics.coco_evaluators import evaluate_with_pycocotools
from evaluation.metrics.coco_matching import KINDS, to_coco

CLASSES = 6


def images_of(problem):
    """Yield the objects and detections of each image."""
    truth = COCO()
    truth.dataset = problem.truth
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    labels = {category['id']: label for label, category in enumerate(problem.truth['categories'])}
    for found in problem.predictions:
        entry = truth.imgs[found['img_id']]
        size = entry['height'], entry['width']
        annotations = truth.imgToAnns[found['img_id']]
        sides = np.array([a['bbox'] for a in annotations], float).reshape(-1, 4)
        objects = Objects(
            size=size,
            labels=np.array([labels[a['category_id']] for a in annotations], int),
            boxes=np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], 1),
            crowd=np.array([a['iscrowd'] for a in annotations], bool),
            outlines=[truth.annToRLE(a) for a in annotations],
        )
        yield (
            objects,
            Detections(size, found['labels'], found['scores'], found['bboxes'], found['masks']),
        )


@pytest.mark.parametrize('seed', [0, 1])
def test_equals_pycocotools(seed):
    problem = generate_problem(25, 12, CLASSES, seed)
    task = Detection()
    measured = [task.measure(found, objects) for objects, found in images_of(problem)]
    metrics = task.metrics(combined(measured, task.combined))
    truth = COCO()
    truth.dataset = problem.truth
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    categories = [category['id'] for category in problem.truth['categories']]
    images = [found['img_id'] for found in problem.predictions]
    for kind, name in KINDS.items():
        detections = to_coco(problem.predictions, categories, kind)
        expected = evaluate_with_pycocotools(truth, detections, images, categories, kind).statistics
        assert metrics[f'{name} AP'] == pytest.approx(100 * expected[0], abs=1e-9)
        assert metrics[f'{name} AP50'] == pytest.approx(100 * expected[1], abs=1e-9)
        assert 0 < metrics[f'{name} AP'] < 100


def test_no_objects_and_no_detections():
    nothing = Objects((8, 9), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0, bool), [])
    found = Detections((8, 9), np.zeros(0, int), np.zeros(0), np.zeros((0, 4)), None)
    task = Detection()
    metrics = task.metrics(task.measure(found, nothing))
    assert [*metrics] == ['box AP', 'box AP50']
    assert np.isnan([*metrics.values()]).all()
