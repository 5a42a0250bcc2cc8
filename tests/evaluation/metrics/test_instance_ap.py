"""`InstanceMetric` compared with an independent AP implementation, and with pycocotools on files."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import MMLogger
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import backbones  # noqa: F401  (before mmdet, which needs its operators)
from evaluation.metrics.coco_evaluators import EVALUATORS
from evaluation.metrics.instance_ap import InstanceMetric
from evaluation.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
REAL_COCO = Path(os.environ.get('COCO_ROOT', ROOT.parent / 'shared/real/coco'))
SIDE = 64
CLASSES = ('disc', 'square', 'star')
# Ids in a data set have gaps; labels count from 0.
CATEGORY_IDS = (3, 7, 8)


def annotation(image, label, box, is_crowd=False):
    """Return a rectangle `box` (left, top, width, height) as a COCO annotation without an id."""
    left, top, width, height = box
    outline = [left, top, left + width, top, left + width, top + height, left, top + height]
    segmentation = [list(map(float, outline))]
    if is_crowd:
        segmentation = rle.encode(np.asfortranarray(rectangle(box)))
        segmentation['counts'] = segmentation['counts'].decode()
    return {
        'image_id': image,
        'category_id': CATEGORY_IDS[label],
        'bbox': list(map(float, box)),
        'area': float(width * height),
        'segmentation': segmentation,
        'iscrowd': int(is_crowd),
    }


def rectangle(box):
    left, top, width, height = box
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def write_truth(folder, annotations, images):
    """Write a COCO annotation file with the given number of images."""
    content = {
        'images': [{'id': i, 'width': SIDE, 'height': SIDE, 'file_name': f'{i}'} for i in range(images)],
        'categories': [
            {'id': number, 'name': name} for number, name in zip(CATEGORY_IDS, CLASSES, strict=True)
        ],
        'annotations': [{**one, 'id': i} for i, one in enumerate(annotations, 1)],
    }
    file = Path(folder) / 'instances.json'
    file.write_text(json.dumps(content))
    return file


def prediction(image, found, size=(SIDE, SIDE)):
    """Return a detector's output for an image from (label, score, box, mask) tuples."""
    boxes = [(left, top, left + width, top + height) for _, _, (left, top, width, height), _ in found]
    masks = np.array([mask for *_, mask in found], bool).reshape(-1, *size)
    return {
        'img_id': image,
        'ori_shape': size,
        'pred_instances': {
            'labels': torch.tensor([label for label, *_ in found], dtype=torch.int64),
            'scores': torch.tensor([score for _, score, *_ in found], dtype=torch.float32),
            'bboxes': torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            'masks': torch.from_numpy(masks),
        },
    }


def rectangles(image, found):
    """Return the same from (label, score, box) tuples."""
    return prediction(image, [(*one, rectangle(one[2])) for one in found])


def measure(truth, predictions, classes=CLASSES, **settings):
    """Return the metric's report and its logged values."""
    metric = InstanceMetric(str(truth), **settings)
    metric.dataset_meta = {'classes': classes}
    for one in predictions:
        metric.process({}, [one])
    logged = metric.evaluate(size=len(predictions))
    return metric.report, logged


def pycocotools_directly(truth, predictions, kind, folder, images=None):
    """Return statistics and per-class AP of COCOeval on two files; -1 if undefined."""
    truth = COCO(str(truth))
    categories = sorted(truth.getCatIds())
    detections = []
    for one in predictions:
        found = one['pred_instances']
        for label, score, corners, mask in zip(
            *(found[key].numpy() for key in ('labels', 'scores', 'bboxes', 'masks')), strict=True
        ):
            left, top, right, bottom = map(float, corners)
            detection = {
                'image_id': one['img_id'],
                'category_id': categories[label],
                'score': float(score),
            }
            if kind == 'bbox':
                detection['bbox'] = [left, top, right - left, bottom - top]
            else:
                encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
                detection['segmentation'] = {**encoded, 'counts': encoded['counts'].decode()}
            detections.append(detection)
    file = Path(folder) / 'detections.json'
    file.write_text(json.dumps(detections))
    evaluation = COCOeval(truth, truth.loadRes(str(file)), kind)
    if images is not None:
        evaluation.params.imgIds = images
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    by_class = {}
    for i, category in enumerate(truth.loadCats(categories)):
        values = evaluation.eval['precision'][:, :, i, 0, 2]
        by_class[category['name']] = values[values > -1].mean() if (values > -1).any() else -1
    return evaluation.stats, by_class


def assert_equals_pycocotools(truth, predictions, folder, images=None, classes=CLASSES):
    report, logged = measure(truth, predictions, classes)
    for kind, name in (('bbox', 'box'), ('segm', 'mask')):
        stats, by_class = pycocotools_directly(truth, predictions, kind, folder, images)
        sizes = ('', '50', '75', 's', 'm', 'l')
        for size, value in zip(sizes, stats, strict=False):
            figure = report.metrics[f'{name}_AP{size}']
            assert figure == (None if value == -1 else pytest.approx(100 * value, abs=1e-10))
            key = f'coco/{kind}_mAP' + (f'_{size}' if size else '')
            assert logged[key] == pytest.approx(value, abs=1e-12)
        assert report.per_class[f'{name}_AP'] == {
            category: None if value == -1 else pytest.approx(100 * value, abs=1e-10)
            for category, value in by_class.items()
        }
    return report


# Reference: box AP in plain Python, for images without crowds.


def overlap(one, other):
    """Return the intersection over union of two boxes (left, top, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def average_precision(truths, found, threshold):
    """Return AP of one class at one IoU, from boxes by image and (image, score, box) detections."""
    free = {image: list(boxes) for image, boxes in truths.items()}
    hits = []
    for image, _, box in sorted(found, key=lambda one: -one[1]):
        candidates = free.get(image, [])
        # The last of equal overlaps wins, as in the COCO evaluation.
        best = max(reversed(candidates), key=lambda truth: overlap(box, truth), default=None)
        hit = best is not None and overlap(box, best) >= threshold
        if hit:
            candidates.remove(best)
        hits.append(hit)
    wanted = sum(map(len, truths.values()))
    recalls = [sum(hits[: i + 1]) / wanted for i in range(len(hits))]
    precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    total = 0.0
    for step in range(101):
        reached = [p for r, p in zip(recalls, precisions, strict=True) if r >= step / 100 - 1e-12]
        total += max(reached, default=0.0)
    return total / 101


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def expected_ap(truths, found, thresholds):
    """Return AP in percent over thresholds and present classes, and AP of each class or None."""
    by_class = {}
    for label, name in enumerate(CLASSES):
        boxes = {}
        for image, its_label, box in truths:
            if its_label == label:
                boxes.setdefault(image, []).append(box)
        mine = [(image, score, box) for image, its_label, score, box in found if its_label == label]
        by_class[name] = (
            100 * mean(average_precision(boxes, mine, t) for t in thresholds) if boxes else None
        )
    return mean(value for value in by_class.values() if value is not None), by_class


THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]
# Few sizes and places, so that boxes often overlap, but never exactly at a threshold.
BOXES = st.tuples(
    st.sampled_from([0, 3, 7]),
    st.sampled_from([0, 2]),
    st.sampled_from([17, 19, 23]),
    st.sampled_from([17, 23, 29]),
)
LABELS, IMAGES = st.integers(0, 2), st.integers(0, 2)


class TestAgainstTheDefinition:
    def test_hand_computed(self, tmp_path):
        """Two objects; hit, miss, hit by score: precision is 1 up to recall 1/2, then 2/3."""
        boxes = [(0, 0, 20, 20), (30, 30, 20, 20)]
        truth = write_truth(tmp_path, [annotation(0, 0, box) for box in boxes], images=1)
        found = [(0, 0.9, boxes[0]), (0, 0.8, (0, 40, 20, 20)), (0, 0.7, boxes[1])]
        report, _ = measure(truth, [rectangles(0, found)])
        # 51 of the 101 recalls are at most 1/2.
        expected = 100 * (51 * 1 + 50 * 2 / 3) / 101
        for name in ('box_AP', 'box_AP50', 'box_AP75', 'mask_AP', 'mask_AP50'):
            assert report.metrics[name] == pytest.approx(expected, abs=1e-10)

    def test_looser_boxes_count_up_to_their_overlap(self, tmp_path):
        """An IoU of 0.72 passes 0.5 to 0.7: half of the ten thresholds."""
        truth = write_truth(tmp_path, [annotation(0, 1, (0, 0, 50, 50))], images=1)
        report, _ = measure(truth, [rectangles(0, [(1, 0.5, (0, 0, 50, 36))])])
        assert report.metrics['box_AP'] == pytest.approx(50, abs=1e-10)
        assert report.metrics['box_AP50'] == pytest.approx(100, abs=1e-10)
        assert report.metrics['box_AP75'] == 0
        assert report.metrics['mask_AP'] == pytest.approx(50, abs=1e-10)

    @settings(max_examples=60, deadline=None)
    @given(
        truths=st.lists(st.tuples(IMAGES, LABELS, BOXES), min_size=1, max_size=8, unique=True),
        found=st.lists(st.tuples(IMAGES, LABELS, BOXES), max_size=12),
        data=st.data(),
    )
    def test_equals_a_plain_implementation(self, tmp_path_factory, truths, found, data):
        order = data.draw(st.permutations(range(len(found))))
        found = [
            (image, label, (1 + rank) / 16, box)
            for rank, (image, label, box) in zip(order, found, strict=True)
        ]
        folder = tmp_path_factory.mktemp('truth', numbered=True)
        truth = write_truth(folder, [annotation(*one) for one in truths], images=3)
        predictions = [rectangles(i, [one[1:] for one in found if one[0] == i]) for i in range(3)]
        report, _ = measure(truth, predictions)
        for name, thresholds in (('', THRESHOLDS), ('50', [0.5]), ('75', [0.75])):
            expected, by_class = expected_ap(truths, found, thresholds)
            assert report.metrics[f'box_AP{name}'] == pytest.approx(expected, abs=1e-9)
            if not name:
                assert report.per_class['box_AP'] == {
                    key: value if value is None else pytest.approx(value, abs=1e-9)
                    for key, value in by_class.items()
                }


PLAIN = [
    annotation(0, 0, (2, 3, 20, 30)),
    annotation(0, 2, (30, 30, 33, 34)),
    annotation(1, 0, (10, 10, 40, 41)),
    annotation(2, 2, (0, 0, 25, 25)),
]
CROWD = annotation(1, 2, (0, 0, 60, 60), is_crowd=True)


def perfect(annotations, images):
    boxes = {i: [] for i in range(images)}
    for number, one in enumerate(annotations):
        label = CATEGORY_IDS.index(one['category_id'])
        boxes[one['image_id']].append((label, 0.9 - number / 100, tuple(map(int, one['bbox']))))
    return [rectangles(image, found) for image, found in boxes.items()]


class TestAgainstPycocotools:
    def test_perfect_predictions(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        report = assert_equals_pycocotools(truth, perfect(PLAIN, 3), tmp_path)
        for name in ('AP', 'AP50', 'AP75', 'APs', 'APm'):
            assert report.metrics[f'box_{name}'] == pytest.approx(100, abs=1e-10)
            assert report.metrics[f'mask_{name}'] == pytest.approx(100, abs=1e-10)
        assert report.metrics['box_APl'] is None
        assert report.images == 3

    def test_detections_inside_crowds_do_not_count(self, tmp_path):
        truth = write_truth(tmp_path, [*PLAIN, CROWD], images=3)
        predictions = perfect(PLAIN, 3)
        many = [(2, 0.99 - i / 100, (i, 2 * i, 15, 16)) for i in range(8)]
        predictions[1] = rectangles(1, [*many, (0, 0.8, (10, 10, 40, 41))])
        report = assert_equals_pycocotools(truth, predictions, tmp_path)
        assert report.metrics['box_AP'] == pytest.approx(100, abs=1e-10)
        without = write_truth(tmp_path, PLAIN, images=3)
        assert assert_equals_pycocotools(without, predictions, tmp_path).metrics['box_AP'] < 100

    def test_masks_are_measured_independently_of_boxes(self, tmp_path):
        """A thin mask in a large box has its own area, not that of the box."""
        box, thin = (10, 10, 40, 41), np.zeros((SIDE, SIDE), np.uint8)
        thin[:3, :40] = 1
        truth = write_truth(tmp_path, [annotation(0, 0, box)], images=1)
        hit, alarm = (0, 0.9, box, rectangle(box)), (0, 0.95, (0, 0, 40, 40), thin)
        report = assert_equals_pycocotools(truth, [prediction(0, [alarm, hit])], tmp_path)
        assert report.metrics['box_APm'] < 100
        assert report.metrics['mask_APm'] == pytest.approx(100, abs=1e-10)
        wrong_mask = [prediction(0, [(0, 0.9, box, thin)])]
        report = assert_equals_pycocotools(truth, wrong_mask, tmp_path)
        assert report.metrics['box_AP'] == pytest.approx(100, abs=1e-10)
        assert report.metrics['mask_AP'] == 0

    def test_image_without_annotations_has_only_false_alarms(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=4)
        alarm = rectangles(3, [(0, 0.99, (0, 0, 20, 20))])
        report = assert_equals_pycocotools(truth, [*perfect(PLAIN, 3), alarm], tmp_path)
        assert report.metrics['box_AP'] < 100
        assert report.images == 4

    def test_image_without_predictions_has_only_misses(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        predictions = perfect(PLAIN, 3)
        predictions[0] = rectangles(0, [])
        report = assert_equals_pycocotools(truth, predictions, tmp_path)
        assert 0 < report.metrics['box_AP'] < 100

    def test_images_that_were_not_run_do_not_count(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        predictions = perfect(PLAIN, 3)[:2]
        report = assert_equals_pycocotools(truth, predictions, tmp_path, images=[0, 1])
        assert report.metrics['box_AP'] == pytest.approx(100, abs=1e-10)
        assert report.images == 2

    def test_no_predictions_at_all(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        report, logged = measure(truth, [rectangles(i, []) for i in range(3)])
        assert {report.metrics[name] for name in ('box_AP', 'mask_AP', 'box_APs', 'box_APm')} == {0}
        assert report.metrics['box_APl'] is None
        assert report.per_class['mask_AP'] == {'disc': 0, 'square': None, 'star': 0}
        assert logged['coco/bbox_mAP'] == 0
        assert logged['coco/bbox_mAP_l'] == -1

    def test_only_crowds_to_find(self, tmp_path):
        truth = write_truth(tmp_path, [CROWD], images=3)
        report, _ = measure(truth, [rectangles(1, [(2, 0.5, (5, 5, 20, 20))])])
        assert set(report.metrics.values()) == {None}

    def test_class_that_does_not_occur(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        report, _ = measure(truth, perfect(PLAIN, 3))
        assert report.per_class['box_AP'] == {
            'disc': pytest.approx(100, abs=1e-10),
            'square': None,
            'star': pytest.approx(100, abs=1e-10),
        }

    @pytest.mark.parametrize('evaluator', EVALUATORS)
    def test_categories_with_unsorted_ids(self, tmp_path, evaluator):
        """Each class gets its own AP, although pycocotools sorts categories by id."""
        truth = write_truth(tmp_path, PLAIN, images=3)
        content = json.loads(truth.read_text())
        renamed = dict(zip(CATEGORY_IDS, (8, 3, 7), strict=True))
        for one in content['categories']:
            one['id'] = renamed[one['id']]
        for one in content['annotations']:
            one['category_id'] = renamed[one['category_id']]
        truth.write_text(json.dumps(content))
        predictions = perfect(PLAIN, 3)
        # Only stars are missed.
        for one in predictions:
            found = one['pred_instances']
            keep = found['labels'] != CLASSES.index('star')
            one['pred_instances'] = {key: value[keep] for key, value in found.items()}
        report, _ = measure(truth, predictions, evaluator=evaluator)
        for kind in ('box_AP', 'mask_AP'):
            perfectly = pytest.approx(100, abs=1e-10)
            assert report.per_class[kind] == {'disc': perfectly, 'square': None, 'star': 0}

    @pytest.mark.parametrize('evaluator', EVALUATORS)
    @pytest.mark.parametrize('ids', [range(4), 'abcd'], ids=['from 0', 'text'])
    def test_ids_of_annotations(self, tmp_path, evaluator, ids):
        """pycocotools alone treats a match with id 0 as no match."""
        truth = write_truth(tmp_path, PLAIN, images=3)
        content = json.loads(truth.read_text())
        for one, its_id in zip(content['annotations'], ids, strict=True):
            one['id'] = its_id
        truth.write_text(json.dumps(content))
        report, _ = measure(truth, perfect(PLAIN, 3), evaluator=evaluator)
        assert report.metrics['box_AP'] == pytest.approx(100, abs=1e-10)
        assert report.metrics['mask_AP'] == pytest.approx(100, abs=1e-10)

    def test_figures_are_not_rounded(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        predictions = perfect(PLAIN, 3)
        predictions[0] = rectangles(0, [(0, 0.99, (40, 0, 9, 9)), (0, 0.5, (2, 3, 20, 30))])
        report, logged = measure(truth, predictions)
        assert report.metrics['box_AP'] != round(report.metrics['box_AP'], 3)
        assert logged['coco/bbox_mAP'] == pytest.approx(report.metrics['box_AP'] / 100, rel=1e-14)

    def test_subset_of_the_classes(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        stars = perfect(PLAIN, 3)
        for one in stars:
            found = one['pred_instances']
            keep = found['labels'] == 2
            one['pred_instances'] = {key: value[keep] for key, value in found.items()}
            one['pred_instances']['labels'][:] = 0
        report, _ = measure(truth, stars, classes=('star',))
        assert report.per_class['box_AP'] == {'star': pytest.approx(100, abs=1e-10)}
        assert report.metrics['box_AP'] == pytest.approx(100, abs=1e-10)


class TestEvaluators:
    def test_report_names_the_evaluator(self, tmp_path):
        truth = write_truth(tmp_path, PLAIN, images=3)
        predictions = perfect(PLAIN, 3)
        reports = {name: measure(truth, predictions, evaluator=name)[0] for name in EVALUATORS}
        assert reports['pycocotools'].evaluator == 'pycocotools'
        assert reports['fast'].evaluator == 'faster-coco-eval'

    def test_fast_by_default(self, tmp_path):
        report, _ = measure(write_truth(tmp_path, PLAIN, images=3), perfect(PLAIN, 3))
        assert report.evaluator == 'faster-coco-eval'

    @pytest.mark.parametrize('evaluator', EVALUATORS)
    def test_summary_is_logged(self, tmp_path, evaluator, monkeypatch):
        said = []
        monkeypatch.setattr(MMLogger, 'info', lambda self, message: said.append(message))
        truth = write_truth(tmp_path, PLAIN, images=3)
        measure(truth, perfect(PLAIN, 3), evaluator=evaluator)
        (box,) = [message for message in said if message.startswith('bbox of 3 images\n')]
        (mask,) = [message for message in said if message.startswith('segm of 3 images\n')]
        for message in (box, mask):
            lines = message.splitlines()[1:]
            assert len(lines) == 12
            assert lines[0] == (
                ' Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ] = 1.000'
            )
            assert lines[-1].endswith('| area= large | maxDets=100 ] = -1.000')

    def test_unknown(self, tmp_path):
        with pytest.raises(UserError, match=r'unknown evaluator .fats.*did you mean fast\?'):
            InstanceMetric(str(tmp_path / 'nothing.json'), evaluator='fats')


@pytest.mark.skipif(not REAL_COCO.is_dir(), reason='no real images of COCO')
def test_real_annotations(tmp_path):
    """Slightly shifted ground truth as predictions for 100 real images, including ten crowds."""
    file = REAL_COCO / 'annotations/instances_val2017.json'
    truth = COCO(str(file))
    categories = sorted(truth.getCatIds())
    random = np.random.default_rng(0)
    predictions = []
    for image in sorted(truth.getImgIds()):
        info = truth.loadImgs(image)[0]
        size = info['height'], info['width']
        found = []
        for one in truth.loadAnns(truth.getAnnIds(image)):
            left, top, width, height = one['bbox']
            moves = random.integers(-6, 7, 2)
            mask = np.roll(truth.annToMask(one), moves[::-1], (0, 1))
            box = (left + moves[0], top + moves[1], width, height)
            label = categories.index(one['category_id'])
            if random.random() < 0.1:
                label = int(random.integers(80))
            found.append((label, random.random(), box, mask))
        predictions.append(prediction(image, found, size))
    assert len(predictions) == len(truth.getImgIds())
    names = [category['name'] for category in truth.loadCats(categories)]
    report = assert_equals_pycocotools(file, predictions, tmp_path, classes=names)
    assert 20 < report.metrics['mask_AP'] < report.metrics['mask_AP50'] < 100
    assert None not in report.metrics.values()
    assert len(report.per_class['box_AP']) == 80
    assert None in report.per_class['box_AP'].values()


class TestBoxesAlone:
    @pytest.fixture
    def found(self):
        return [rectangles(0, [(0, 0.9, (2, 2, 20, 20)), (1, 0.8, (30, 30, 12, 9))]), rectangles(1, [])]

    @pytest.fixture
    def truth(self, tmp_path):
        present = [annotation(0, 0, (3, 2, 20, 19)), annotation(1, 1, (30, 30, 12, 12))]
        return write_truth(tmp_path, present, 2)

    @staticmethod
    def without_masks(found):
        for one in found:
            del one['pred_instances']['masks']
        return found

    @pytest.mark.parametrize('evaluator', EVALUATORS)
    @pytest.mark.parametrize('segmentation', [None, [], 'absent'])
    def test_figures_equal_those_of_boxes_with_masks(self, found, truth, evaluator, segmentation):
        whole, logged = measure(truth, found, evaluator=evaluator)
        content = json.loads(truth.read_text())
        for entry in content['annotations']:
            entry['segmentation'] = segmentation
            if segmentation == 'absent':
                del entry['segmentation']
        truth.write_text(json.dumps(content))
        boxes, logged_boxes = measure(truth, self.without_masks(found), evaluator=evaluator)
        assert boxes.metrics == {k: v for k, v in whole.metrics.items() if k.startswith('box')}
        assert boxes.metrics['box_AP'] > 0
        assert boxes.per_class == {'box_AP': whole.per_class['box_AP']}
        assert logged_boxes == {k: v for k, v in logged.items() if 'bbox' in k}

    def test_masks_are_ignored_if_only_boxes_are_requested(self, found, truth):
        report, _ = measure(truth, found, metric='bbox')
        assert {name.partition('_')[0] for name in report.metrics} == {'box'}
        assert {*report.evidence.matches} == {'box'}

    def test_requesting_both_equals_the_default(self, found, truth):
        assert measure(truth, found, metric=['segm', 'bbox'])[1] == measure(truth, found)[1]
