"""Evaluations keep their figures if collecting evidence fails, for every metric."""

import logging

import pytest
import torch

import backbones  # noqa: F401  (before mmdet, which needs its operators)
from evaluation.metrics import instance_ap
from evaluation.metrics.class_metrics import AccuracyMetric, SegmentationMetric
from tests.evaluation.metrics.test_instance_ap import annotation, measure, rectangles, write_truth


@pytest.fixture
def warnings(monkeypatch):
    said = []
    say = lambda text, logger, level: said.append((level, text))  # noqa: E731
    monkeypatch.setattr('mmengine.logging.print_log', say)
    return said


def test_detections(tmp_path, monkeypatch, warnings):
    def fail(truth, predictions, categories, kinds):
        raise IndexError('a mask is missing')

    monkeypatch.setattr(instance_ap, 'collect_instances', fail)
    box = (5, 5, 20, 20)
    truth = write_truth(tmp_path, [annotation(0, 0, box)], 1)
    found, _ = measure(truth, [rectangles(0, [(0, 0.9, box)])])
    assert found.metrics['box_AP'] == pytest.approx(100)
    assert found.evidence is None
    assert warnings == [(logging.WARNING, 'result without evidence: IndexError: a mask is missing')]


def evaluated(kind, paths):
    """Return the report of images that are all predicted correctly."""
    metric = kind()
    metric.dataset_meta = {'classes': ('a', 'b')}
    one = torch.zeros(1, 2, 2, dtype=torch.int64)
    for path in paths:
        sample = {
            'img_path': path,
            'pred_sem_seg': {'data': one},
            'gt_sem_seg': {'data': one},
            'gt_label': torch.tensor(0),
            'pred_scores': torch.tensor([0.9, 0.1]),
        }
        metric.process({}, [sample])
    metric.evaluate(size=len(paths))
    assert set(metric.report.metrics.values()) == {100}
    return metric.report


@pytest.mark.parametrize('paths', [['1.jpg', '1.jpg'], [None, '1.jpg']])
@pytest.mark.parametrize('kind', [SegmentationMetric, AccuracyMetric])
def test_images_with_the_same_or_no_path(kind, paths, warnings):
    assert evaluated(kind, paths).evidence is None
    ((level, text),) = warnings
    assert level == logging.WARNING
    assert text.startswith('result without evidence: ')


@pytest.mark.parametrize('kind', [SegmentationMetric, AccuracyMetric])
def test_absolute_and_relative_paths(kind, tmp_path, warnings):
    assert len(evaluated(kind, [str(tmp_path / 'a.jpg'), 'b.jpg']).evidence.images) == 2
    assert warnings == []
