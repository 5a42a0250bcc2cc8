"""All evaluators compared with direct use of pycocotools, on generated and real objects."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from evaluation.benchmark.evaluator_speed import generate_problem
from evaluation.metrics import coco_evaluators as evaluators
from evaluation.metrics.coco_evaluators import EVALUATORS, check_evaluator, load_evaluator
from evaluation.metrics.coco_matching import KINDS, SHAPES, to_coco
from evaluation.utils.errors import UserError
from tests.coco_truth import indexed
from tests.commands import ROOT

REAL_COCO = Path(os.environ.get('COCO_ROOT', ROOT.parent / 'shared/real/coco'))
HEIGHT, WIDTH = 120, 130
every_evaluator = pytest.mark.parametrize('name', EVALUATORS)


def box_of(left, top, width, height):
    """Return a rectangle in whole pixels, as box and as mask."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[top : top + height, left : left + width] = 1
    return {
        'bbox': [float(left), float(top), float(width), float(height)],
        'segmentation': coco_mask.encode(mask),
    }


def true_object(image, category, box, is_crowd=0, area=None):
    shapes = box_of(*box)
    return {
        'image_id': image,
        'category_id': category,
        'iscrowd': is_crowd,
        'area': float(box[2] * box[3]) if area is None else area,
        **shapes,
    }


def detection(image, category, score, box):
    return {'image_id': image, 'category_id': category, 'score': score, **box_of(*box)}


def write_truth(objects, images, categories, first_id=1):
    return {
        'images': [{'id': image, 'height': HEIGHT, 'width': WIDTH} for image in images],
        'categories': [{'id': category, 'name': f'{category}'} for category in categories],
        'annotations': [{**one, 'id': number} for number, one in enumerate(objects, start=first_id)],
    }


def of_kind(detections, kind):
    """Return the detections with only one of their shapes."""
    other = SHAPES['segm' if kind == 'bbox' else 'bbox']
    return [{key: value for key, value in one.items() if key != other} for one in detections]


def reference(truth, detections, kind, images=None):
    """Run COCOeval as documented; it sorts categories by id."""
    truth = indexed(truth)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        evaluation = COCOeval(truth, truth.loadRes(of_kind(detections, kind)), kind)
        evaluation.params.imgIds = images or evaluation.params.imgIds
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation, printed.getvalue().splitlines()[-12:]


def evaluate(name, truth, detections, kind, images=None, categories=None):
    images = images or [image['id'] for image in truth['images']]
    categories = categories or [category['id'] for category in truth['categories']]
    found = of_kind(detections, kind)
    return load_evaluator(name)(indexed(truth), found, images, categories, kind)


def assert_equals_the_reference(name, truth, detections, images=None):
    """Compare all figures and the summary; return the results for masks."""
    ids = [category['id'] for category in truth['categories']]
    for kind in KINDS:
        expected, lines = reference(truth, detections, kind, images)
        found = evaluate(name, truth, detections, kind, images)
        assert found.statistics.shape == (12,)
        np.testing.assert_allclose(found.statistics, expected.stats, rtol=0, atol=1e-9)
        place = [sorted(ids).index(category) for category in ids]
        precision = expected.eval['precision'][:, :, place]
        np.testing.assert_allclose(found.precision, precision, rtol=0, atol=1e-9)
        assert found.summary == lines
    return found


# Few places and sizes, so that many boxes overlap, some exactly at a threshold: 20x10 in 20x20 is 1/2.
# Areas are at the limits of small and large, 32 ** 2 and 96 ** 2, or one row of pixels off.
SIDES = st.sampled_from(
    [(10, 20), (20, 20), (20, 15), (32, 32), (32, 31), (33, 32), (96, 96), (96, 95), (97, 96)]
)
PLACES = st.tuples(st.sampled_from([0, 3, 10]), st.sampled_from([0, 5]))
BOXES = st.builds(lambda place, sides: (*place, *sides), PLACES, SIDES)
IMAGES, CATEGORIES = (4, 9, 11), (7, 2, 5)
OBJECTS = st.lists(
    st.builds(
        true_object,
        st.sampled_from(IMAGES),
        st.sampled_from(CATEGORIES),
        BOXES,
        st.sampled_from([0, 0, 0, 1]),
    ),
    max_size=10,
)
# Three scores, so that many are equal.
DETECTIONS = st.lists(
    st.builds(
        detection,
        st.sampled_from(IMAGES),
        st.sampled_from(CATEGORIES),
        st.sampled_from([0.25, 0.5, 0.75]),
        BOXES,
    ),
    min_size=1,
    max_size=20,
)


class TestAgainstTheReference:
    @every_evaluator
    @settings(max_examples=120, deadline=None)
    @given(OBJECTS, DETECTIONS)
    def test_crowds_ties_borders_and_categories_out_of_order(self, name, objects, detections):
        assert_equals_the_reference(name, write_truth(objects, IMAGES, CATEGORIES), detections)

    @every_evaluator
    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_boxes_off_the_grid(self, name, data):
        """Overlaps are bitwise equal, computed from the same numbers in the same order."""
        tenths = st.integers(0, 400).map(lambda n: n / 10)
        corners = st.tuples(tenths, tenths, tenths.map(lambda n: n + 0.1), tenths.map(lambda n: n + 0.1))
        objects = [true_object(1, 1, (0, 0, 9, 9)) for _ in range(4)]
        for one in objects:
            one['bbox'] = list(data.draw(corners))
            one['area'] = one['bbox'][2] * one['bbox'][3]
        found = [detection(1, 1, score / 8, (0, 0, 9, 9)) for score in range(8)]
        for one in found:
            # Parts of an object's box have overlaps equal to the thresholds, up to rounding.
            left, top, width, height = objects[data.draw(st.integers(0, 3))]['bbox']
            share = data.draw(st.sampled_from([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 0.95, 1.0]))
            one['bbox'] = [left, top, width * share, height]
        assert_equals_the_reference(name, write_truth(objects, [1], [1]), found)

    @every_evaluator
    @pytest.mark.parametrize('seed', range(3))
    def test_more_than_a_hundred_detections_of_many_classes(self, name, seed):
        """Each evaluator keeps the best hundred detections of a class and image."""
        problem = generate_problem(images=8, detections=400, classes=3 + 20 * seed, seed=seed)
        ids = [category['id'] for category in problem.truth['categories']]
        boxes, masks = (to_coco(problem.predictions, ids, kind) for kind in KINDS)
        found = [{**box, **mask} for box, mask in zip(boxes, masks, strict=True)]
        if not seed:
            pairs = [(one['image_id'], one['category_id']) for one in found]
            assert max(map(pairs.count, set(pairs))) > 100
        result = assert_equals_the_reference(name, problem.truth, found)
        assert 0.05 < result.statistics[0] < 0.95

    @every_evaluator
    @settings(max_examples=15, deadline=None)
    @given(OBJECTS, DETECTIONS)
    def test_images_that_were_not_run_do_not_count(self, name, objects, detections):
        detections = [one for one in detections if one['image_id'] != 9]
        if detections:
            truth = write_truth(objects, IMAGES, CATEGORIES)
            assert_equals_the_reference(name, truth, detections, images=[4, 11])

    @every_evaluator
    def test_repeated_evaluation_of_the_same_truth(self, name):
        """As in the next epoch: an earlier evaluation leaves no traces in the ground truth."""
        problem = generate_problem(images=6, detections=20, classes=3, seed=1)
        truth, ids = indexed(problem.truth), [1, 2, 3]
        images = [prediction['img_id'] for prediction in problem.predictions]
        results = [
            load_evaluator(evaluator)(truth, to_coco(problem.predictions, ids, kind), images, ids, kind)
            for evaluator in (name, 'pycocotools', name)
            for kind in KINDS
        ]
        for first, again in zip(results[:2], results[4:], strict=True):
            np.testing.assert_array_equal(again.precision, first.precision)
            np.testing.assert_array_equal(again.statistics, first.statistics)

    @every_evaluator
    @pytest.mark.skipif(not REAL_COCO.is_dir(), reason='no real images of COCO')
    @pytest.mark.parametrize('split', ['train', 'val'])
    def test_real_objects(self, name, split):
        """Real polygons, crowds, images without objects; three shifted detections of each object."""
        truth = json.loads((REAL_COCO / f'annotations/instances_{split}2017.json').read_text())
        random = np.random.default_rng(0)
        ids = [category['id'] for category in truth['categories']]
        found = [
            entry
            for annotation in truth['annotations']
            for entry in moved_copies(annotation, indexed_image(truth, annotation), random, ids)
        ]
        assert any(annotation['iscrowd'] for annotation in truth['annotations'])
        result = assert_equals_the_reference(name, truth, found)
        assert 0.1 < result.statistics[0] < 0.9
        assert -1 not in result.statistics


def indexed_image(truth, annotation):
    return next(image for image in truth['images'] if image['id'] == annotation['image_id'])


def moved_copies(annotation, image, random, categories):
    """Yield detections near an object, with rounded scores, so that some are equal."""
    size = image['height'], image['width']
    shape = annotation['segmentation']
    code = coco_mask.frPyObjects(shape, *size)
    mask = coco_mask.decode(coco_mask.merge(code) if isinstance(code, list) else code)
    for _ in range(3):
        across, down = random.integers(-4, 5, 2)
        left, top, width, height = annotation['bbox']
        wrong = random.random() < 0.2
        yield {
            'image_id': annotation['image_id'],
            'category_id': int(random.choice(categories)) if wrong else annotation['category_id'],
            'score': round(random.random(), 2),
            'bbox': [left + across, top + down, width, height * random.uniform(0.8, 1.2)],
            'segmentation': coco_mask.encode(np.asfortranarray(np.roll(mask, (down, across), (0, 1)))),
        }


class TestCornerCases:
    """Cases that fail or give wrong results when pycocotools is used as documented."""

    @every_evaluator
    @pytest.mark.parametrize('kind', KINDS)
    def test_no_detections(self, name, kind):
        truth = write_truth([true_object(4, 7, (0, 0, 20, 20))], IMAGES, CATEGORIES)
        result = evaluate(name, truth, [], kind)
        # Only small objects of one class, none found; everything else is undefined.
        assert result.statistics.tolist() == [0, 0, 0, 0, -1, -1, 0, 0, 0, 0, -1, -1]
        assert set(result.precision[:, :, 0, :2].ravel()) == {0}
        assert set(result.precision[:, :, 1:].ravel()) == {-1}

    @every_evaluator
    @pytest.mark.parametrize('kind', KINDS)
    def test_only_crowds(self, name, kind):
        truth = write_truth([true_object(4, 7, (0, 0, 40, 40), is_crowd=1)], IMAGES, CATEGORIES)
        result = evaluate(name, truth, [detection(4, 7, 0.5, (0, 0, 20, 20))], kind)
        assert set(result.statistics) == {-1}
        assert set(result.precision.ravel()) == {-1}

    @every_evaluator
    def test_categories_keep_the_requested_order(self, name):
        objects = [true_object(4, 7, (0, 0, 20, 20)), true_object(4, 2, (50, 50, 20, 20))]
        truth = write_truth(objects, IMAGES, CATEGORIES)
        found = [detection(4, 7, 0.5, (0, 0, 20, 20))]
        for order in ([7, 2, 5], [2, 7, 5], [5, 2, 7]):
            precision = evaluate(name, truth, found, 'bbox', categories=order).precision[..., 0, -1]
            by_category = {c: precision[:, :, i].ravel().tolist() for i, c in enumerate(order)}
            assert by_category[7] == pytest.approx([1] * 1010)
            assert set(by_category[2]) == {0}
            assert set(by_category[5]) == {-1}

    @every_evaluator
    def test_part_of_the_categories(self, name):
        objects = [true_object(4, 7, (0, 0, 20, 20)), true_object(4, 2, (50, 50, 20, 20))]
        truth = write_truth(objects, IMAGES, CATEGORIES)
        found = [detection(4, 7, 0.5, (0, 0, 20, 20)), detection(4, 2, 0.9, (0, 0, 20, 20))]
        result = evaluate(name, truth, found, 'segm', categories=[7])
        assert result.precision.shape == (10, 101, 1, 4, 3)
        assert result.statistics[0] == pytest.approx(1)

    @every_evaluator
    def test_text_ids(self, name):
        """Data sets other than COCO may use file names as image ids."""
        numbers = dict(zip(IMAGES, ('b.jpg', 'a.jpg', 'c.jpg'), strict=True))
        random = np.random.default_rng(0)
        objects = [true_object(image, 7, (10, 10, 40, 40)) for image in IMAGES]
        found = [
            detection(image, 7, score, (*random.integers(5, 25, 2).tolist(), 40, 40))
            for image in IMAGES
            for score in (0.25, 0.5, 0.75)
        ]
        truth = write_truth(objects, IMAGES, CATEGORIES)
        as_numbers = evaluate(name, truth, found, 'bbox')
        for one in (*truth['annotations'], *found):
            one['image_id'] = numbers[one['image_id']]
        for image in truth['images']:
            image['id'] = numbers[image['id']]
        as_text = evaluate(name, truth, found, 'bbox')
        other, _ = reference(truth, found, 'bbox')
        np.testing.assert_allclose(as_text.statistics, other.stats, rtol=0, atol=1e-9)
        assert 0 < as_text.statistics[0] < 1
        assert as_text.statistics[0] == pytest.approx(as_numbers.statistics[0], abs=0.2)


class TestNames:
    @pytest.mark.parametrize('wrong', ['fats', 'coco', None, ''])
    def test_unknown(self, wrong):
        with pytest.raises(UserError, match=r'unknown evaluator .*; choose from pycocotools, fast'):
            check_evaluator(wrong)

    def test_nearest(self):
        with pytest.raises(UserError, match=r'did you mean fast\?'):
            check_evaluator('fats')

    def test_package_that_is_not_installed(self, monkeypatch):
        monkeypatch.setattr(evaluators.importlib.util, 'find_spec', lambda name: None)
        with pytest.raises(UserError, match='pip install faster-coco-eval, or use --evaluator pycoco'):
            load_evaluator('fast')
