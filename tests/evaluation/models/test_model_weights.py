"""Checkpoints of whole models and of only backbones, loaded into detectors and segmentors."""

import pytest
import torch

from backbones import BackboneError
from evaluation.engine.experiment import read_config
from evaluation.models.model_weights import check_whole, fit_model
from evaluation.utils.meta_device import build_without_values
from tests.released import classifier_shapes, mask_rcnn_shapes, without_values
from tests.variants import RELEASED_VARIANTS, ROOT

every_variant = pytest.mark.parametrize('variant', RELEASED_VARIANTS)


def build(task, variant):
    cfg = read_config(str(ROOT / f'configs/{task}_{variant}.py'))
    return build_without_values(cfg.model, cfg.default_scope)


@every_variant
def test_released_detectors_load_completely(variant):
    model = build('mask_rcnn', variant)
    fitted, report = fit_model(model, without_values(mask_rcnn_shapes(variant)), 'a.pth')
    assert fitted.keys() == model.state_dict().keys()
    assert report.backbone.share == report.rest.share == 1
    assert not report.backbone.expected
    assert not report.rest.expected
    check_whole(model, fitted, report, 'a.pth')
    assert str(report).count('(100.0%') == 2


@every_variant
@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet'])
def test_released_classifiers_load_only_the_backbone(task, variant):
    model = build(task, variant)
    fitted, report = fit_model(model, without_values(classifier_shapes(variant)), 'a.pth')
    own = {name for name in model.state_dict() if name.startswith('backbone.')}
    assert own - fitted.keys() == {name for name in own if name.startswith('backbone.out_norms.')}
    assert report.backbone.share == 1
    assert report.backbone.is_whole
    ((reason, names),) = report.rest.expected.items()
    assert reason == 'the file has only a backbone, so the rest is not loaded'
    assert set(names) == model.state_dict().keys() - own
    assert report.rest.is_whole
    with pytest.raises(BackboneError, match=r'a\.pth has only a backbone, of which 100\.0% fits'):
        check_whole(model, fitted, report, 'a.pth')


def test_different_heads_are_not_loaded_and_reported():
    model = build('mask_rcnn', 'swin_tiny')
    fitted, report = fit_model(model, without_values(mask_rcnn_shapes('swin_tiny', classes=20)), 'a.pth')
    others = {name.split(':')[0] for name in report.rest.mismatched}
    assert others == model.state_dict().keys() - fitted.keys()
    assert {name.rsplit('.', 1)[0] for name in others} == {
        'roi_head.bbox_head.fc_cls',
        'roi_head.bbox_head.fc_reg',
        'roi_head.mask_head.conv_logits',
    }
    with pytest.raises(BackboneError, match='6 weights of a different shape, such as'):
        check_whole(model, fitted, report, 'a.pth')


@pytest.mark.parametrize('leaf', ['out_norm_2.weight', 'stages.3.1.norm2.bias'])
def test_incomplete_backbone_cannot_be_tested(leaf):
    model = build('mask_rcnn', 'swin_tiny')
    weights = without_values(mask_rcnn_shapes('swin_tiny'))
    del weights[f'backbone.{leaf}']
    fitted, report = fit_model(model, weights, 'a.pth')
    with pytest.raises(BackboneError, match=r'1 weight missing, such as backbone\.'):
        check_whole(model, fitted, report, 'a.pth')


def test_counters_of_batch_norms_may_be_missing():
    model = build('upernet', 'convnext_tiny')
    state = {n: v for n, v in model.state_dict().items() if not n.endswith('num_batches_tracked')}
    assert len(state) < len(model.state_dict())
    fitted, report = fit_model(model, state, 'a.pth')
    check_whole(model, fitted, report, 'a.pth')
    assert 'batch norm counters' in report.rest.expected


def test_checkpoint_of_a_different_scale_is_refused():
    weights = without_values(mask_rcnn_shapes('halo_small'))
    with pytest.raises(
        BackboneError,
        match=r'halo_tiny\); the weights are for halo_small, so use a config of halo_small',
    ):
        fit_model(build('mask_rcnn', 'halo_tiny'), weights, 'a.pth')


def test_values_are_loaded():
    cfg = read_config(str(ROOT / 'configs/demo/upernet_convnext_micro.py'))
    model = build_without_values(cfg.model, cfg.default_scope)
    state = {name: torch.randn(value.shape) for name, value in model.state_dict().items()}
    fitted, _ = fit_model(model, state, 'a.pth')
    assert all(torch.equal(fitted[name], value) for name, value in state.items())
