"""Checks, run-length encoding and dumping of predictions."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

import backbones  # noqa: F401  (before mmdet, which needs its operators)
from evaluation.metrics import predictions
from evaluation.metrics.class_metrics import AccuracyMetric, SegmentationMetric, count_areas, count_pairs
from evaluation.metrics.predictions import DumpPredictions, encode_masks, ends_of_each, ends_on_device
from evaluation.metrics.record_files import read_evidence, write_evidence
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.test_instance_ap import annotation, measure, rectangles, write_truth

BOX = (5, 5, 20, 20)


class TestMaps:
    @pytest.mark.parametrize('shape', [(1, 1, 1), (1, 4, 1), (1, 1, 6), (1, 6, 4), (4, 6), (2, 4, 6)])
    def test_prediction_with_a_different_shape(self, shape):
        metric = SegmentationMetric()
        metric.dataset_meta = {'classes': ('a', 'b')}
        sample = {
            'img_path': 'val/x.jpg',
            'pred_sem_seg': {'data': torch.zeros(shape, dtype=torch.int64)},
            'gt_sem_seg': {'data': torch.zeros(1, 4, 6, dtype=torch.uint8)},
        }
        with pytest.raises(UserError, match=r'val/x\.jpg: prediction of shape .* for a label map of'):
            metric.process({}, [sample])
        assert metric.results == []
        with pytest.raises(UserError, match='prediction of shape'):
            count_areas(sample['pred_sem_seg']['data'], sample['gt_sem_seg']['data'], 2)

    def test_negative_classes_count_as_no_class(self):
        """Otherwise they would count as the last classes of the previous label."""
        pairs = count_pairs(torch.tensor([[-1, -3, 0]]), torch.tensor([[1, 1, 1]]), 3)
        assert pairs.tolist() == [[1, 0, 1], [1, 3, 2]]


class TestScores:
    @pytest.mark.parametrize(
        ('scores', 'label', 'message'),
        [
            ([0.5, 0.5], 0, r'x\.jpg: scores of shape \(2,\) for 3 classes of the data set'),
            ([[0.5, 0.3, 0.2]], 0, r'scores of shape \(1, 3\) for 3 classes'),
            ([0.5, 0.3, 0.2], 3, 'label 3 is not one of the 3 classes'),
            ([0.5, 0.3, 0.2], -1, 'label -1 is not one of the 3 classes'),
        ],
    )
    def test_scores_and_labels_that_do_not_fit_the_data_set(self, scores, label, message):
        metric = AccuracyMetric()
        metric.dataset_meta = {'classes': ('a', 'b', 'c')}
        sample = {
            'img_path': 'x.jpg',
            'pred_scores': torch.tensor(scores),
            'gt_label': torch.tensor(label),
        }
        with pytest.raises(UserError, match=message):
            metric.process({}, [sample])

    def test_a_predicted_class_missing_from_the_data_set(self, tmp_path):
        """As for a subset of ImageNet, classified among all its classes; records stay readable."""
        metric = AccuracyMetric()
        metric.dataset_meta = {'classes': ('a', 'b', 'c')}
        for name, best in (('x.jpg', 6), ('y.jpg', 1)):
            scores = torch.zeros(8)
            scores[best], scores[1] = 0.9, 0.95 if best == 1 else 0.5
            metric.process({}, [{'img_path': name, 'pred_scores': scores, 'gt_label': torch.tensor(1)}])
        assert metric.evaluate(size=2) == {'top1': 50, 'top5': 100}
        file = tmp_path / 'evidence.npz'
        write_evidence(file, metric.report.evidence)
        evidence = read_evidence(file, 'classification')
        assert evidence.classes == ('a', 'b', 'c')
        assert evidence.predicted.tolist() == [3, 1]
        assert evidence.right_images('top1').tolist() == [False, True]


class TestInstances:
    def refused(self, tmp_path, message, **changes):
        truth = write_truth(tmp_path, [annotation(0, 0, BOX)], 1)
        found = rectangles(0, [(0, 0.9, BOX), (1, 0.8, BOX)])
        assert measure(truth, [found])[0].metrics['box_AP'] == pytest.approx(100)
        for name, change in changes.items():
            found['pred_instances'][name] = change(found['pred_instances'][name])
        with pytest.raises(UserError, match=message):
            measure(truth, [found])

    @pytest.mark.parametrize('name', ['bboxes', 'scores', 'labels', 'masks'])
    def test_unequal_lengths(self, tmp_path, name):
        self.refused(tmp_path, f'image 0: prediction has .*1 {name}', **{name: lambda value: value[:1]})

    def test_more_boxes_than_scores(self, tmp_path):
        self.refused(
            tmp_path, 'prediction has 4 bboxes, 2 scores', bboxes=lambda value: value.repeat(2, 1)
        )

    def test_classes_missing_from_the_data_set(self, tmp_path):
        self.refused(
            tmp_path, 'predicted classes 5 to 6, but the data set has 3', labels=lambda v: v + 5
        )
        self.refused(tmp_path, 'predicted classes -2 to -1', labels=lambda v: v - 2)

    def test_masks_of_a_different_size(self, tmp_path):
        """pycocotools gives such masks an overlap of -1, so mask AP would be 0."""
        self.refused(tmp_path, 'image 0: masks of 32x64 .* say 64x64', masks=lambda v: v[:, :32])


every_way = pytest.mark.parametrize('ends', [ends_of_each, ends_on_device])
MASKS = arrays.arrays(
    bool, st.tuples(st.integers(0, 4), st.integers(1, 7), st.integers(1, 9)), elements=st.booleans()
)


def expected(masks):
    return [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def encoded(masks, ends):
    """Encode masks with the given function, on any device."""
    shape = masks.shape[1:]
    return [predictions._code(each, *shape) for each in ends(torch.from_numpy(masks))]


@every_way
@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_same_bytes(ends, masks):
    assert encoded(masks, ends) == expected(masks)


@every_way
def test_full_empty_and_single_pixel_masks(ends):
    masks = np.zeros((6, 5, 4), bool)
    masks[1] = True
    for number, (row, column) in enumerate([(0, 0), (4, 0), (0, 3), (4, 3)], start=2):
        masks[number, row, column] = True
    assert encoded(masks, ends) == expected(masks)


@every_way
def test_pixel_by_pixel(ends):
    """Runs follow the columns and start with zeros."""
    mask = np.array([[[0, 1, 1], [1, 1, 0]]], bool)
    assert [each.tolist() for each in ends(torch.from_numpy(mask))] == [[1, 5]]
    mask = ~mask
    assert [each.tolist() for each in ends(torch.from_numpy(mask))] == [[0, 1, 5]]


@pytest.mark.parametrize(
    'device',
    [
        'cpu',
        pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')),
    ],
)
def test_masks_of_a_detector(device):
    """Large blobs in a non-contiguous view are encoded and decoded."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:97, :130]
    centers, radii = random.uniform(0, 130, (12, 2)), random.uniform(0, 60, 12)
    masks = np.stack(
        [(rows - y) ** 2 + (columns - x) ** 2 < r**2 for (y, x), r in zip(centers, radii, strict=True)]
    )
    on_device = torch.from_numpy(masks).to(device)
    codes = encode_masks(on_device[:, ::2])
    assert codes == expected(masks[:, ::2])
    assert np.array_equal(coco_mask.decode(codes).transpose(2, 0, 1), masks[:, ::2])


def test_no_masks():
    assert encode_masks(torch.zeros(0, 5, 6, dtype=torch.bool)) == []


HEIGHT, WIDTH, CLASSES = 40, 60, 150


def dumped(tmp_path, *samples):
    metric = DumpPredictions(str(tmp_path / 'predictions.pkl'))
    for sample in samples:
        metric.process({}, [sample])
    metric.evaluate(size=len(samples))
    return pickle.loads((tmp_path / 'predictions.pkl').read_bytes())


def test_instances(tmp_path):
    masks = torch.rand(5, HEIGHT, WIDTH) > 0.5
    instances = {'masks': masks, 'scores': torch.rand(5), 'labels': torch.arange(5)}
    sample = {
        'img_path': 'a.jpg',
        'pred_instances': instances,
        'gt_instances': {'masks': np.zeros((9, HEIGHT, WIDTH))},
        'ignored_instances': {},
    }
    (found,) = dumped(tmp_path, sample)
    assert set(found) == {'img_path', 'pred_instances'}
    assert torch.equal(found['pred_instances']['scores'], instances['scores'])
    assert torch.equal(found['pred_instances']['labels'], instances['labels'])
    decoded = coco_mask.decode(found['pred_instances']['masks']).transpose(2, 0, 1)
    assert np.array_equal(decoded.astype(bool), masks.numpy())
    # The sample is unchanged for other metrics.
    assert sample['pred_instances']['masks'] is masks


def test_map(tmp_path):
    labels = torch.randint(0, CLASSES, (1, HEIGHT, WIDTH))
    sample = {
        'img_path': 'a.jpg',
        'pred_sem_seg': {'data': labels},
        'seg_logits': {'data': torch.zeros(CLASSES, HEIGHT, WIDTH)},
        'gt_sem_seg': {'data': labels},
    }
    (found,) = dumped(tmp_path, sample)
    assert set(found) == {'img_path', 'pred_sem_seg'}
    assert torch.equal(found['pred_sem_seg']['data'].long(), labels)


def test_file_size_excludes_scores(tmp_path):
    labels = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.int64)
    logits = torch.zeros(CLASSES, HEIGHT, WIDTH)
    sample = {'pred_sem_seg': {'data': labels}, 'seg_logits': {'data': logits}}
    dumped(tmp_path, *[sample] * 3)
    assert (tmp_path / 'predictions.pkl').stat().st_size < 3 * (HEIGHT * WIDTH + 2000)
