"""Wrapped data sets in validation and test loaders."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict

from evaluation.config.config_files import read_config
from evaluation.data.config_checks import check_evaluated
from evaluation.metrics.class_metrics import SegmentationMetric
from evaluation.utils.errors import UserError
from tests.commands import ROOT

pytestmark = pytest.mark.habits

DETECTION, SEGMENTATION, CLASSES = (
    f'configs/{task}_swin_micro.py' for task in ('mask_rcnn', 'upernet', 'imagenet')
)
LOADERS = ('val_dataloader', 'test_dataloader')


def config(file, loader, wrap):
    """Return a config whose loader has the data set `wrap(inner, other)`."""
    cfg = read_config(str(ROOT / file))
    inner = cfg[loader].dataset
    other = copy.deepcopy(inner)
    other.data_root = 'elsewhere'
    cfg[loader] = ConfigDict({**cfg[loader], 'dataset': ConfigDict(wrap(inner, other))})
    return cfg


def refusal(cfg, loader):
    with pytest.raises(UserError) as caught:
        check_evaluated(cfg, loader)
    (line,) = str(caught.value).splitlines()
    return line


def joined(one, other):
    return dict(type='ConcatDataset', datasets=[one, other])


@pytest.mark.parametrize('loader', LOADERS)
def test_joined_annotation_files(loader):
    """Images with the same id would share ground truth, and other images would have none."""
    assert refusal(config(DETECTION, loader, joined), loader) == (
        f'{loader}.dataset joins 2 data sets (annotations/instances_val2017.json, '
        'annotations/instances_val2017.json), but AP is computed from one annotation file; evaluate '
        'each data set separately, or give one annotation file for all images'
    )


def test_nested_joins():
    cfg = config(DETECTION, LOADERS[0], lambda a, b: joined(joined(a, b), b))
    assert 'joins 3 data sets' in refusal(cfg, LOADERS[0])


@pytest.mark.parametrize('file', [DETECTION, SEGMENTATION, CLASSES])
@pytest.mark.parametrize(
    'wrapper',
    [
        dict(type='RepeatDataset', times=2),
        dict(type='ClassBalancedDataset', oversample_thr=0.1),
        dict(type='MultiImageMixDataset', pipeline=[]),
    ],
    ids=lambda wrapper: wrapper['type'],
)
def test_repeated_images(file, wrapper):
    line = refusal(config(file, LOADERS[0], lambda a, _: {**wrapper, 'dataset': a}), LOADERS[0])
    assert f'val_dataloader.dataset.type={wrapper["type"]!r} repeats or mixes images' in line


def test_repeated_images_in_a_join():
    repeat = dict(type='RepeatDataset', times=2)
    cfg = config(SEGMENTATION, LOADERS[1], lambda a, b: joined(a, {**repeat, 'dataset': b}))
    assert "test_dataloader.dataset.datasets.1.type='RepeatDataset'" in refusal(cfg, LOADERS[1])


@pytest.mark.parametrize('file', [SEGMENTATION, CLASSES])
def test_the_same_data_twice(file):
    cfg = config(file, LOADERS[0], lambda a, _: joined(a, copy.deepcopy(a)))
    assert 'twice' in refusal(cfg, LOADERS[0])


@pytest.mark.parametrize('file', [SEGMENTATION, CLASSES])
def test_joined_images_without_ids(file):
    check_evaluated(config(file, LOADERS[0], joined), LOADERS[0])


@pytest.mark.parametrize('file', [DETECTION, SEGMENTATION, CLASSES])
def test_one_data_set(file):
    for wrap in (lambda a, _: a, lambda a, _: dict(type='ConcatDataset', datasets=[a])):
        check_evaluated(config(file, LOADERS[0], wrap), LOADERS[0])


def test_wrappers_of_training_images():
    check_evaluated(config(DETECTION, 'train_dataloader', joined), 'train_dataloader')


def test_joined_maps_give_the_metric_of_the_union():
    """Pixels of both data sets are counted, even if image names are the same."""
    generator = np.random.default_rng(0)
    label, found = generator.integers(0, 3, (2, 4, 1, 5, 6))
    paths = [f'/{folder}/{name}.jpg' for folder in 'ab' for name in 'xy']
    metric = SegmentationMetric()
    metric.dataset_meta = {'classes': ('a', 'b', 'c')}
    samples = [
        {
            'pred_sem_seg': {'data': torch.tensor(f)},
            'gt_sem_seg': {'data': torch.tensor(t)},
            'img_path': p,
        }
        for f, t, p in zip(found, label, paths, strict=True)
    ]
    metric.process({}, samples)
    figures = metric.compute_metrics(metric.results)
    iou = [((label == c) & (found == c)).sum() / ((label == c) | (found == c)).sum() for c in range(3)]
    assert figures['mIoU'] == pytest.approx(100 * np.mean(iou), rel=1e-12)
    assert metric.report.images == 4
    assert metric.report.evidence is not None


@pytest.mark.parametrize('loader', LOADERS)
def test_endless_evaluation(loader):
    cfg = read_config(str(ROOT / SEGMENTATION))
    cfg[loader].sampler.type = 'InfiniteSampler'
    assert f"{loader}.sampler.type='InfiniteSampler' never ends" in refusal(cfg, loader)
