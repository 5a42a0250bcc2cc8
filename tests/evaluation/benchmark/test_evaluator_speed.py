"""Speed of the evaluators, and the generated problem on which it is measured."""

import dataclasses
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from evaluation.benchmark import evaluator_speed
from evaluation.benchmark.evaluator_speed import (
    IMAGE_SIZES,
    EvaluatorTimes,
    compare_evaluators,
    generate_problem,
    largest_difference,
    render_comparison,
    timed_evaluation,
)
from evaluation.data.coco_file import check_coco
from evaluation.metrics.coco_evaluators import EVALUATORS, load_evaluator


@pytest.fixture(scope='module')
def small_problem():
    return generate_problem(images=6, detections=10, classes=4, seed=0)


def test_evaluators_agree_and_are_timed_in_turn(small_problem):
    said = []
    comparison = compare_evaluators(small_problem, repeats=2, say=said.append)
    assert comparison.seconds.keys() == comparison.differences.keys() == EVALUATORS.keys()
    for by_kind in comparison.seconds.values():
        assert by_kind.keys() == {'bbox', 'segm'}
        assert all(taken > 0 for taken in by_kind.values())
    assert comparison.differences['pycocotools'] == 0
    assert comparison.differences['fast'] <= 1e-9
    order = [line.split(' with ')[1].split(':')[0] for line in said]
    assert order == ['pycocotools', 'fast'] * 4
    objects = len(small_problem.truth['annotations'])
    assert comparison.title == (
        f'COCO evaluation of 60 detections on 6 images with {objects} objects of 4 classes'
    )


def test_wrong_figures_of_an_evaluator_are_detected(small_problem, monkeypatch):
    """Each evaluator is compared with the reference, not with itself."""

    def load(name):
        evaluate = load_evaluator(name)
        if name == 'pycocotools':
            return evaluate

        def err(*arguments):
            result = evaluate(*arguments)
            precision = result.precision.copy()
            precision[3, 50, 2, 0, 1] += 0.25
            return dataclasses.replace(result, precision=precision)

        return err

    monkeypatch.setattr(evaluator_speed, 'load_evaluator', load)
    assert compare_evaluators(small_problem, repeats=1).differences['fast'] == pytest.approx(0.25)


def test_difference_includes_statistics(small_problem):
    result, _ = timed_evaluation(load_evaluator('fast'), small_problem, 'bbox')
    other = dataclasses.replace(result, statistics=result.statistics - np.eye(12)[11] / 8)
    assert largest_difference(result, other) == pytest.approx(0.125)


def test_table():
    comparison = EvaluatorTimes(
        'Some problem',
        {'pycocotools': {'bbox': 8.0, 'segm': 10.0}, 'fast': {'bbox': 1.0, 'segm': 3.0}},
        {'pycocotools': 0.0, 'fast': 2.5e-16},
    )
    lines = render_comparison(comparison, repeats=3).splitlines()
    assert lines[0] == '### Some problem'
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if line[:1] == '|']
    assert rows[0][1:] == ['box (s)', 'mask (s)', 'both (s)', 'times faster', 'largest difference']
    assert rows[2:] == [
        ['pycocotools', '8.00', '10.00', '18.00', '1.0', '0.0e+00'],
        ['fast', '1.00', '3.00', '4.00', '4.5', '2.5e-16'],
    ]
    assert 'medians of 3 runs' in lines[-1]


IMAGES, DETECTIONS, CLASSES = 150, 20, 30


@pytest.fixture(scope='module')
def problem():
    return generate_problem(IMAGES, DETECTIONS, CLASSES, seed=0)


def sizes(problem):
    return {image['id']: (image['height'], image['width']) for image in problem.truth['images']}


def code_of(annotation, size):
    shape = annotation['segmentation']
    if not isinstance(shape, list):
        return shape
    return coco_mask.merge(coco_mask.frPyObjects(shape, *size))


def fill_of(code, corners):
    """Return the fraction of its box that a mask fills; check that it lies inside the box."""
    left, top, width, height = coco_mask.toBbox(code)
    low, high = np.split(np.asarray(corners, float), 2)
    if width:
        assert ([left, top] >= low - 1).all()
        assert ([left + width, top + height] <= high + 1).all()
    return coco_mask.area(code) / (high - low).clip(1).prod()


class TestTruth:
    def test_is_in_coco_format(self, problem, tmp_path):
        file = tmp_path / 'truth.json'
        file.write_text(json.dumps(problem.truth))
        names = [category['name'] for category in problem.truth['categories']]
        assert len(check_coco(file, names, evaluated=True)) == IMAGES

    def test_areas_match_the_outlines(self, problem):
        fills = []
        for one in problem.truth['annotations']:
            code = code_of(one, sizes(problem)[one['image_id']])
            assert one['area'] == coco_mask.area(code)
            left, top, width, height = one['bbox']
            fills.append(fill_of(code, (left, top, left + width, top + height)))
        assert np.mean(fills) == pytest.approx(0.58, abs=0.1)

    def test_has_the_proportions_of_coco(self, problem):
        """Figures of COCO val2017, from 742 real objects and from 36,781."""
        annotations = problem.truth['annotations']
        areas = np.array([one['area'] for one in annotations])
        assert len(annotations) / IMAGES == pytest.approx(7.3, abs=1.5)
        assert np.mean(areas < 32**2) == pytest.approx(0.41, abs=0.1)
        assert np.mean(areas > 96**2) == pytest.approx(0.24, abs=0.1)
        assert sum(one['iscrowd'] for one in annotations) > 0
        with_objects = {one['image_id'] for one in annotations}
        assert len(with_objects) < IMAGES
        pairs = {(one['image_id'], one['category_id']) for one in annotations}
        assert 1 < len(pairs) / len(with_objects) < 3.5


class TestPredictions:
    def test_number_is_as_requested(self, problem):
        assert [one['img_id'] for one in problem.predictions] == list(range(1, IMAGES + 1))
        for one in problem.predictions:
            assert one['bboxes'].shape == (DETECTIONS, 4)
            assert one['scores'].shape == one['labels'].shape == (DETECTIONS,)
            assert len(one['masks']) == DETECTIONS
            assert one['labels'].min() >= 0
            assert one['labels'].max() < CLASSES

    def test_best_come_first(self, problem):
        for one in problem.predictions:
            assert (np.diff(one['scores']) <= 0).all()
            assert 0 <= one['scores'].min() <= one['scores'].max() <= 1

    def test_masks_lie_in_their_boxes(self, problem):
        fills = []
        for one in problem.predictions[:20]:
            assert {tuple(code['size']) for code in one['masks']} == {sizes(problem)[one['img_id']]}
            fills += map(fill_of, one['masks'], one['bboxes'])
        assert np.mean(fills) == pytest.approx(0.58, abs=0.1)


def test_depends_only_on_the_seed():
    one, again, other = (generate_problem(4, 5, 6, seed) for seed in (3, 3, 4))
    assert one.truth == again.truth != other.truth
    for first, second in zip(one.predictions, again.predictions, strict=True):
        assert first['masks'] == second['masks']
        assert np.array_equal(first['scores'], second['scores'])


def test_sizes_match_real_images():
    assert all(max(size) in (500, 640) for size in IMAGE_SIZES)
