import pickle

import numpy as np
import torch
from pycocotools import mask as coco_mask

from evaluation.metrics.prediction_dump import DumpPredictions

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
    # What other metrics are given next is as it was.
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


def test_size_of_an_image_does_not_hold_all_scores(tmp_path):
    labels = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.int64)
    logits = torch.zeros(CLASSES, HEIGHT, WIDTH)
    sample = {'pred_sem_seg': {'data': labels}, 'seg_logits': {'data': logits}}
    dumped(tmp_path, *[sample] * 3)
    assert (tmp_path / 'predictions.pkl').stat().st_size < 3 * (HEIGHT * WIDTH + 2000)
