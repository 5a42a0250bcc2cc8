"""Configs of the domains of a shift suite."""

from pathlib import Path

import pytest

from evaluation.config.masks import loads_masks
from evaluation.engine.experiment import read_config
from evaluation.engine.shifted_test import check_suite_fits, domain_config
from evaluation.results.shift_suites import COCO_O
from tests.refusals import refusal
from tests.variants import ROOT

DETECTOR = ROOT / 'configs/mask_rcnn_swin_tiny.py'


def test_domain_of_a_config_with_skipped_images():
    cfg = read_config(str(DETECTOR))
    kind = cfg.test_dataloader.dataset.type
    # As --skip-bad-images leaves it; images of the domain can have the same names.
    cfg.test_dataloader.dataset.update(
        type='dataset_without', dataset_type=kind, left_out=['val2017/000000000001.jpg']
    )
    before = cfg.pretty_text
    own = domain_config(cfg, COCO_O, Path('data/coco-o/sketch'))
    dataset = own.test_dataloader.dataset
    assert (dataset.type, 'left_out' in dataset) == (kind, False)
    assert (dataset.data_root, dataset.ann_file) == ('data/coco-o/sketch', COCO_O.annotations)
    assert dataset.data_prefix == {'img': 'val2017/'}
    assert own.test_evaluator.ann_file == f'data/coco-o/sketch/{COCO_O.annotations}'
    assert not loads_masks([own.test_dataloader, own.tta_pipeline])
    assert cfg.pretty_text == before


def test_configs_that_do_not_fit():
    cfg = read_config(str(DETECTOR))
    check_suite_fits(cfg, COCO_O)
    cfg.test_evaluator = [cfg.test_evaluator]
    assert 'needs InstanceMetric as the only test_evaluator' in refusal(check_suite_fits, cfg, COCO_O)
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=2 * [cfg.val_dataloader.dataset])
    assert 'needs a single test data set in COCO format' in refusal(check_suite_fits, cfg, COCO_O)


@pytest.mark.parametrize('leaf', ['upernet_swin_tiny', 'imagenet_swin_tiny'])
def test_other_tasks_are_refused(leaf):
    cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
    assert '--shift coco-o is for instance_segmentation, but' in refusal(check_suite_fits, cfg, COCO_O)
