"""Predictions that do not fit the truth are refused, never broadcast or cut."""

import pytest
import torch

import backbones  # noqa: F401  (before mmdet, which needs its operators)
from evaluation.metrics.accuracy import AccuracyMetric
from evaluation.metrics.evidence.files import read_evidence, write_evidence
from evaluation.metrics.segmentation import SegmentationMetric, count_areas, count_pairs
from evaluation.utils.errors import UserError
from tests.evaluation.metrics.test_instances import annotation, measure, rectangles, write_truth

BOX = (5, 5, 20, 20)


class TestMaps:
    @pytest.mark.parametrize('shape', [(1, 1, 1), (1, 4, 1), (1, 1, 6), (1, 6, 4), (4, 6), (2, 4, 6)])
    def test_prediction_of_another_shape(self, shape):
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

    def test_a_negative_class_is_none(self):
        """One below 0 would count as the last class of the label before."""
        pairs = count_pairs(torch.tensor([[-1, -3, 0]]), torch.tensor([[1, 1, 1]]), 3)
        assert pairs.tolist() == [[1, 0, 1], [1, 3, 2]]


class TestScores:
    @pytest.mark.parametrize(
        ('scores', 'label', 'message'),
        [
            ([0.5, 0.5], 0, r'x\.jpg: scores of shape \(2,\) for 3 classes of the data set'),
            ([[0.5, 0.3, 0.2]], 0, r'scores of shape \(1, 3\) for 3 classes'),
            ([0.5, 0.3, 0.2], 3, 'label 3 is none of the 3 classes'),
            ([0.5, 0.3, 0.2], -1, 'label -1 is none of the 3 classes'),
        ],
    )
    def test_other_classes_than_the_data_set_has(self, scores, label, message):
        metric = AccuracyMetric()
        metric.dataset_meta = {'classes': ('a', 'b', 'c')}
        sample = {
            'img_path': 'x.jpg',
            'pred_scores': torch.tensor(scores),
            'gt_label': torch.tensor(label),
        }
        with pytest.raises(UserError, match=message):
            metric.process({}, [sample])

    def test_a_guess_of_a_class_that_the_data_set_has_not(self, tmp_path):
        """Of a part of ImageNet, classified among all its classes; the records stay readable."""
        metric = AccuracyMetric()
        metric.dataset_meta = {'classes': ('a', 'b', 'c')}
        for name, best in (('x.jpg', 6), ('y.jpg', 1)):
            scores = torch.zeros(8)
            scores[best], scores[1] = 0.9, 0.95 if best == 1 else 0.5
            metric.process({}, [{'img_path': name, 'pred_scores': scores, 'gt_label': torch.tensor(1)}])
        assert metric.evaluate(size=2) == {'top1': 50, 'top5': 100}
        file = tmp_path / 'evidence.npz'
        write_evidence(file, metric.report.evidence)
        evidence = read_evidence(file, 'imagenet')
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
        self.refused(tmp_path, f'image 0: prediction of .*1 {name}', **{name: lambda value: value[:1]})

    def test_more_boxes_than_scores(self, tmp_path):
        self.refused(
            tmp_path, 'prediction of 4 bboxes, 2 scores', bboxes=lambda value: value.repeat(2, 1)
        )

    def test_classes_that_the_data_set_has_not(self, tmp_path):
        self.refused(
            tmp_path, 'predicted classes 5 to 6, but the data set has 3', labels=lambda v: v + 5
        )
        self.refused(tmp_path, 'predicted classes -2 to -1', labels=lambda v: v - 2)

    def test_masks_of_another_size(self, tmp_path):
        """pycocotools gives them an overlap of -1, so that mask AP would be 0."""
        self.refused(tmp_path, 'image 0: masks of 32x64 .* say 64x64', masks=lambda v: v[:, :32])
