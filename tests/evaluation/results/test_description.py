import json
import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper

from evaluation.engine.experiment import read_config
from evaluation.results import description
from evaluation.results.description import (
    config_name,
    describe_complexity,
    describe_training,
    starting_weights,
)
from tests.variants import ROOT


def config(init_cfg=None, **top):
    return Config({'model': {'backbone': {'type': 'UnifiedBackbone', 'init_cfg': init_cfg}}, **top})


PRETRAINED = {'type': 'Pretrained', 'checkpoint': 'imagenet.pth'}


@pytest.mark.parametrize(
    ('cfg', 'expected'),
    [
        (config(), 'scratch'),
        (config(PRETRAINED), 'imagenet.pth'),
        (config(load_from='detector.pth', resume=False), 'detector.pth'),
        (config(PRETRAINED, load_from='detector.pth', resume=False), 'detector.pth'),
        (config(PRETRAINED, load_from='epoch_3.pth', resume=True), 'imagenet.pth'),
        (config(load_from=None, resume=True), 'scratch'),
    ],
)
def test_starting_weights(cfg, expected):
    assert starting_weights(cfg) == expected


@pytest.mark.parametrize('amp', [False, True])
@pytest.mark.parametrize(
    ('scaling', 'scaled'),
    [
        ({}, False),
        ({'auto_scale_lr': {'enable': False}}, False),
        ({'auto_scale_lr': {'enable': True, 'base_batch_size': 8}}, True),
    ],
)
def test_training_options_are_recorded(monkeypatch, amp, scaling, scaled):
    monkeypatch.setattr(description, 'data_sha256', lambda dataset: 'd0')
    cfg = config(train_dataloader={'batch_size': 4, 'dataset': {}}, **scaling)
    # The optimizer wrapper with autocast cannot be built without a GPU.
    wrapper = object.__new__(AmpOptimWrapper if amp else OptimWrapper)
    runner = SimpleNamespace(
        train_loop=None, max_iters=9, seed=0, world_size=2, cfg=cfg, optim_wrapper=wrapper
    )
    described = describe_training(runner)
    assert described['mixed_precision'] is amp
    assert described['learning_rate_scaled'] is scaled
    assert described['batch_size'] == 8
    assert described['variant'] is None
    for leaf in ('mask_rcnn_dcn_micro', 'upernet_dcn_micro', 'imagenet_dcn_micro'):
        cfg.optim_wrapper = read_config(str(ROOT / f'configs/{leaf}.py')).optim_wrapper
        assert describe_training(runner)['variant'] == 'fair'
        cfg.optim_wrapper.constructor = 'ReleasedDecayConstructor'
        assert describe_training(runner)['variant'] == 'released'


@pytest.mark.parametrize(('wrapper', 'batch'), [({}, 8), ({'accumulative_counts': 3}, 24)])
def test_batch_size_counts_an_optimizer_step(monkeypatch, wrapper, batch):
    monkeypatch.setattr(description, 'data_sha256', lambda dataset: 'd0')
    cfg = config(train_dataloader={'batch_size': 4, 'dataset': {}}, optim_wrapper=wrapper)
    runner = SimpleNamespace(
        train_loop=None, max_iters=9, seed=0, world_size=2, cfg=cfg, optim_wrapper=None
    )
    assert describe_training(runner)['batch_size'] == batch


def test_config_name():
    assert config_name('a/b/upernet_dcn_tiny.py') == 'upernet_dcn_tiny'


@pytest.fixture(scope='module')
def cfg():
    return read_config(str(ROOT / 'configs/upernet_convnext_micro.py'))


class TestComplexity:
    def test_entry_in_the_result(self, cfg):
        entry = describe_complexity(cfg.model, cfg.default_scope, None)
        assert json.loads(json.dumps(entry)) == entry
        assert (entry['height'], entry['width']) == (512, 2048)
        assert entry['uncounted_operators'] == []
        # The heads without the backbone are more than half of Swin-T's 945 G.
        assert 500e9 < entry['flops'] < 945e9

    def test_image_size_of_the_recipe_is_used(self, cfg):
        entry = describe_complexity(cfg.model, cfg.default_scope, (256, 512))
        assert (entry['height'], entry['width']) == (256, 512)

    def test_random_numbers_of_the_training_are_not_affected(self, cfg):
        def draw():
            return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()

        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        expected = draw()
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        describe_complexity(cfg.model, cfg.default_scope, None)
        assert draw() == expected

    @pytest.mark.parametrize('model', [{'type': 'NoSuchModel'}, {'type': 'ResNet', 'depth': 50}])
    def test_model_that_cannot_be_counted_still_has_a_result(self, model, monkeypatch):
        said = []
        monkeypatch.setattr(
            description, 'print_log', lambda message, logger, level: said.append((message, level))
        )
        assert describe_complexity(model, 'mmdet', None) is None
        ((message, level),) = said
        assert level == logging.WARNING
        assert 'FLOPs cannot be counted' in message
        assert model['type'] in message
