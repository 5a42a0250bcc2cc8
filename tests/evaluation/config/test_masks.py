"""Masks in a config: predicted, loaded and evaluated."""

import copy

import pytest
from mmengine.config import Config, ConfigDict

import backbones  # noqa: F401  (import before mmdet, which needs its operators)
from evaluation.config.masks import (
    check_masks,
    config_needs_masks,
    leave_out_unused_masks,
    loads_masks,
    needs_masks,
    predicts_masks,
)
from evaluation.engine.experiment import read_config
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.detectors import BOX_DETECTORS, CONFIGS

pytestmark = pytest.mark.habits

LOADERS = ('train_dataloader', 'val_dataloader')
MASK_DETECTORS = (
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    'htc/htc_r50_fpn_1x_coco.py',
    'solo/solo_r50_fpn_1x_coco.py',
    'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
    'yolact/yolact_r50_1xb8-55e_coco.py',
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
    'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py',
    'queryinst/queryinst_r50_fpn_1x_coco.py',
)


@pytest.fixture(scope='module')
def page():
    return read_config(str(ROOT / 'configs/demo/mask_rcnn_swin_micro.py'))


@pytest.fixture
def cfg(page):
    return copy.deepcopy(page)


@pytest.fixture
def boxes_alone(cfg):
    cfg.model.roi_head.mask_head = None
    return cfg


@pytest.mark.parametrize('file', BOX_DETECTORS.values())
def test_box_detectors(file):
    cfg = Config.fromfile(CONFIGS / file)
    assert not predicts_masks(cfg.model)
    assert not config_needs_masks(cfg)
    check_masks(cfg, LOADERS)


@pytest.mark.parametrize('file', MASK_DETECTORS)
def test_mask_detectors(file):
    cfg = Config.fromfile(CONFIGS / file)
    assert predicts_masks(cfg.model)
    assert config_needs_masks(cfg)
    check_masks(cfg, LOADERS)


def test_box_supervised_training_needs_no_masks():
    cfg = Config.fromfile(CONFIGS / 'boxinst/boxinst_r50_fpn_ms-90k_coco.py')
    check_masks(cfg, LOADERS)
    assert not needs_masks(cfg, 'train_dataloader', [cfg.train_dataloader.dataset])
    assert needs_masks(cfg, 'val_dataloader', [cfg.val_dataloader.dataset])


def test_masks_are_not_loaded_if_not_predicted(boxes_alone):
    assert leave_out_unused_masks(boxes_alone)
    assert not leave_out_unused_masks(boxes_alone)
    for name in (*LOADERS, 'test_dataloader', 'tta_pipeline'):
        assert not loads_masks([boxes_alone[name]])
    assert not config_needs_masks(boxes_alone)
    check_masks(boxes_alone, LOADERS)


def test_masks_are_loaded_if_predicted(cfg):
    before = copy.deepcopy(cfg.to_dict())
    assert not leave_out_unused_masks(cfg)
    assert cfg.to_dict() == before
    assert all(needs_masks(cfg, name, [cfg[name].dataset]) for name in LOADERS)


@pytest.mark.parametrize('step', [{'type': 'CopyPaste'}, {'type': 'FilterAnnotations', 'by_mask': True}])
def test_masks_are_loaded_if_a_transform_uses_them(boxes_alone, step):
    boxes_alone.train_dataloader.dataset.pipeline.append(ConfigDict(step))
    assert leave_out_unused_masks(boxes_alone)
    assert needs_masks(boxes_alone, 'train_dataloader', [boxes_alone.train_dataloader.dataset])
    assert not needs_masks(boxes_alone, 'val_dataloader', [boxes_alone.val_dataloader.dataset])


def test_mask_detector_may_be_evaluated_by_boxes_only(cfg):
    cfg.val_evaluator.metric = 'bbox'
    cfg.val_dataloader.dataset.pipeline[2].with_mask = False
    assert not needs_masks(cfg, 'val_dataloader', [cfg.val_dataloader.dataset])
    check_masks(cfg, LOADERS)


def test_trained_masks_must_be_loaded(cfg):
    cfg.train_dataloader.dataset.pipeline[1].with_mask = False
    with pytest.raises(UserError, match='train_dataloader loads none; give its LoadAnnotations'):
        check_masks(cfg, LOADERS)


@pytest.mark.parametrize('kind', ['InstanceMetric', 'CocoMetric'])
def test_evaluated_masks_must_be_predicted(boxes_alone, kind):
    boxes_alone.val_evaluator = ConfigDict(type=kind, metric=['bbox', 'segm'])
    leave_out_unused_masks(boxes_alone)
    with pytest.raises(UserError, match=r'give val_evaluator\.metric=bbox'):
        check_masks(boxes_alone, LOADERS)
