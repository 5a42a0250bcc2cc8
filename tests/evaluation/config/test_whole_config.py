"""Checks of whole configs: every mistake is named."""

import importlib.util
import os
from pathlib import Path

import mmengine.visualization.vis_backend as backends
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.visualization import BaseVisBackend
from torch import nn

from evaluation.config.config_files import read_config
from evaluation.config.overrides import merge_options
from evaluation.config.settings import (
    setting,
)
from evaluation.config.whole_config import (
    PACKAGES_OF_BACKENDS,
    check_batch_norm,
    check_config,
    check_image_sizes,
    check_old_names,
    check_visualization,
)
from evaluation.engine import experiment
from evaluation.utils.errors import UserError
from tests.commands import ROOT
from tests.refusals import refusal

LOADERS = ('train_dataloader', 'val_dataloader')


class TestWhole:
    @pytest.mark.parametrize(
        ('place', 'value', 'line'),
        [
            ('train_dataloader.batch_size', 2.5, 'train_dataloader.batch_size=2.5: give a whole number'),
            ('train_dataloader.num_workers', -1, 'give a whole number, 0 or more'),
            ('train_cfg.max_epochs', 0, 'train_cfg.max_epochs=0: give a whole number, 1 or more'),
            ('train_cfg.val_interval', True, 'train_cfg.val_interval=True'),
            ('train_dataloader.num_workers', 0, 'give train_dataloader.persistent_workers=False too'),
            ('model.backbone', None, 'has no model.backbone'),
            ('optim_wrapper', None, 'has no optim_wrapper'),
            ('val_evaluator', None, 'val_evaluator is None; to turn off validation'),
            ('model.neck.in_channels', [1, 2, 3, 4], 'give model.neck.in_channels=[32, 64, 128, 256]'),
            ('model.backbone.out_indices', [0, 1, 2], 'give model.neck.in_channels=[32, 64, 128]'),
        ],
    )
    def test_refused(self, mask_rcnn, place, value, line):
        holder, _, name = place.rpartition('.')
        setting(mask_rcnn, holder)[name] = value
        assert line in refusal(check_config, mask_rcnn, LOADERS, 1)

    @pytest.mark.parametrize(
        ('backbone', 'rate', 'line'),
        [
            ('mask_rcnn_original_resnet50', 0.9, 'ResNet has no layer_of(name) that returns the layer'),
            ('mask_rcnn_original_convnext_tiny', 1.5, 'layer_decay_rate=1.5: choose a number above 0'),
            ('mask_rcnn_original_convnext_tiny', 'a', "layer_decay_rate='a': choose a number above 0"),
        ],
    )
    def test_layer_decay_is_refused_before_anything_is_built(self, backbone, rate, line):
        cfg = read_config(str(ROOT / f'configs/{backbone}.py'))
        cfg.optim_wrapper.update(
            constructor='LayerDecayConstructor', paramwise_cfg=dict(layer_decay_rate=rate)
        )
        assert line in refusal(check_config, cfg, LOADERS, 1)

    @pytest.mark.parametrize('leaf', ['mask_rcnn_original_convnext_tiny', 'mask_rcnn_dcn_micro'])
    def test_layer_decay_of_backbones_that_tell_their_layers(self, leaf):
        cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
        cfg.optim_wrapper.update(
            constructor='LayerDecayConstructor', paramwise_cfg=dict(layer_decay_rate=0.9)
        )
        check_config(cfg, LOADERS, 1)

    @pytest.mark.parametrize('hooks', ['EMAHook', {'type': 'EMAHook'}, 3])
    def test_hooks_that_are_not_a_list(self, mask_rcnn, hooks):
        mask_rcnn.custom_hooks = hooks
        line = refusal(check_config, mask_rcnn, LOADERS, 1)
        assert line == f"custom_hooks={hooks!r}: give a list, such as [{{'type': 'NAME'}}]"

    def test_single_scheduler(self, mask_rcnn):
        mask_rcnn.param_scheduler = mask_rcnn.param_scheduler[1]
        check_config(mask_rcnn, LOADERS, 1)

    def test_no_validation(self, mask_rcnn):
        for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
            mask_rcnn[name] = None
        check_config(mask_rcnn, LOADERS, 1)

    @pytest.mark.parametrize('wrapper', ['AmpOptimWrapper', AmpOptimWrapper])
    def test_mixed_precision(self, mask_rcnn, monkeypatch, wrapper):
        mask_rcnn.optim_wrapper.type = wrapper
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
        line = refusal(check_config, mask_rcnn, LOADERS, 1)
        assert line.startswith('optim_wrapper.type=AmpOptimWrapper needs a GPU')
        check_config(mask_rcnn, ('test_dataloader',), 1)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        check_config(mask_rcnn, LOADERS, 1)

    @pytest.mark.parametrize('entry', ['EMAHook', None, 3, ['EMAHook']])
    def test_hooks_that_are_not_settings(self, mask_rcnn, entry):
        mask_rcnn.custom_hooks = [*mask_rcnn.get('custom_hooks', []), entry]
        last = len(mask_rcnn.custom_hooks) - 1
        line = refusal(check_config, mask_rcnn, LOADERS, 1)
        assert line == f"custom_hooks.{last}={entry!r}: give settings, such as {{'type': 'NAME'}}"

    @pytest.mark.parametrize(
        ('head', 'channels'), [('decode_head', [1, 2, 3, 4]), ('auxiliary_head', 9)]
    )
    def test_channels_of_heads(self, upernet, head, channels):
        upernet.model[head].in_channels = channels
        line = refusal(check_config, upernet, LOADERS, 1)
        assert line.startswith(f'model.{head}.in_channels={channels}, but')

    @pytest.mark.parametrize(
        ('place', 'size'),
        [
            ('model.data_preprocessor.size', (16, 16)),
            ('model.data_preprocessor.size', (512, 31)),
            ('train_dataloader.dataset.pipeline.3.crop_size', (16, 512)),
        ],
    )
    def test_small_images(self, upernet, place, size):
        holder, _, name = place.rpartition('.')
        setting(upernet, holder)[name] = (32, 32)
        check_image_sizes(upernet)
        setting(upernet, holder)[name] = size
        assert refusal(check_image_sizes, upernet).startswith(f'{place}={size}: ')


class TestBatchNorm:
    @pytest.mark.parametrize(
        ('norm', 'sync', 'batch', 'processes', 'works'),
        [
            ('BN', None, 1, 1, False),
            ('BN', None, 1, 2, False),
            ('BN', None, 2, 1, True),
            ('SyncBN', None, 1, 1, False),
            ('SyncBN', None, 1, 2, True),
            ('BN', 'torch', 1, 2, True),
            ('BN', 'torch', 1, 1, False),
            ('GN', None, 1, 1, True),
        ],
    )
    def test_pooling_to_one_pixel(self, upernet, norm, sync, batch, processes, works):
        upernet.model.decode_head.norm_cfg.type = norm
        upernet.sync_bn = sync
        upernet.train_dataloader.batch_size = batch
        if works:
            check_batch_norm(upernet, processes)
        else:
            line = refusal(check_batch_norm, upernet, processes)
            assert line.startswith('train_dataloader.batch_size=1 is too small: model.decode_head ')

    def test_no_pooling_to_one_pixel(self, upernet):
        upernet.train_dataloader.batch_size = 1
        upernet.model.decode_head.pool_scales = (2, 3, 6)
        check_batch_norm(upernet, 1)

    def test_testing_is_not_affected(self, upernet):
        upernet.train_dataloader.batch_size = 1
        check_config(upernet, ('test_dataloader',), 1)

    def test_torch_still_raises_this_error(self):
        """The fallback recognizes torch's error by its message."""

        def train():
            with experiment.backbone_errors_reported():
                nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))

        line = refusal(train)
        assert 'one value per channel (input size torch.Size([1, 3, 1, 1]))' in line


class TestWorkDir:
    def test_leaves_no_files(self, tmp_path):
        experiment.check_work_dir(tmp_path / 'a/b')
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('name', 'line'),
        [
            ('.', 'is not writable; choose'),
            ('a/b', 'is not writable (no write access to {folder}); choose'),
        ],
    )
    def test_not_writable(self, tmp_path, monkeypatch, name, line):
        monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != tmp_path)
        said = refusal(experiment.check_work_dir, tmp_path / name)
        assert line.format(folder=tmp_path) in said


def test_tensorboard_that_is_not_installed(mask_rcnn, monkeypatch):
    monkeypatch.setattr(experiment.importlib.util, 'find_spec', lambda name: None)
    assert 'pip install tensorboard' in refusal(experiment.write_tensorboard, mask_rcnn)


@pytest.mark.habits
@pytest.mark.parametrize('leaf', ['mask_rcnn_swin_micro', 'upernet_dcn_micro', 'upernet_r50'])
@pytest.mark.parametrize('place', ['model', 'model.backbone'])
class TestPretrained:
    def test_training_names_the_option(self, leaf, place):
        cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
        merge_options(cfg, {f'{place}.pretrained': 'swin.pth'})
        with pytest.raises(UserError) as caught:
            check_config(cfg, LOADERS, 1)
        (line,) = str(caught.value).splitlines()
        assert line.startswith(
            f"{place}.pretrained='swin.pth' is no longer supported; give --pretrained swin.pth"
        )

    def test_testing_drops_it(self, leaf, place):
        """All weights come from the checkpoint."""
        cfg = read_config(str(ROOT / f'configs/{leaf}.py'))
        merge_options(cfg, {f'{place}.pretrained': 'swin.pth'})
        check_config(cfg, ('test_dataloader',), 1)
        assert 'swin.pth' not in cfg.pretty_text


@pytest.mark.habits
def test_none_as_in_mmseg_configs():
    cfg = read_config(str(ROOT / 'configs/upernet_dcn_micro.py'))
    cfg.model.pretrained = None
    check_config(cfg, LOADERS, 1)


@pytest.mark.habits
@pytest.mark.parametrize(
    ('settings', 'advice'),
    [
        (dict(seed=42), r'seed=42 has no effect; give randomness=dict\(seed=42\), or --seed'),
        (dict(seed=42, randomness=dict(seed=1)), r'seed=42 has no effect'),
        (dict(deterministic=True), r'give randomness=dict\(deterministic=True\)'),
        (dict(resume_from='a.pth'), "give load_from='a.pth' with resume=True, or --resume"),
        (dict(auto_resume=True), 'give resume=True, or --resume'),
    ],
)
def test_settings_without_effect(settings, advice):
    with pytest.raises(UserError, match=advice):
        check_old_names(Config(settings), is_training=True)
    check_old_names(Config(settings), is_training=False)


@pytest.mark.habits
@pytest.mark.parametrize(
    'settings',
    [
        dict(seed=42, randomness=dict(seed=42)),
        dict(seed=None, resume_from=None, auto_resume=False, deterministic=False),
        dict(resume_from='a.pth', load_from='a.pth', resume=True),
    ],
)
def test_old_names_as_variables(settings):
    check_old_names(Config(settings), is_training=True)


def with_backends(*types):
    return Config({'visualizer': {'vis_backends': [{'type': each} for each in types]}})


@pytest.mark.habits
@pytest.mark.parametrize('backend', PACKAGES_OF_BACKENDS)
def test_missing_package(monkeypatch, backend):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError) as caught:
        check_visualization(with_backends('LocalVisBackend', backend))
    package = PACKAGES_OF_BACKENDS[backend]
    assert str(caught.value) == (
        f'visualizer.vis_backends.1 ({backend}) needs the package {package}: pip install {package}, '
        'or remove this entry'
    )


@pytest.mark.habits
@pytest.mark.parametrize('backend', [*PACKAGES_OF_BACKENDS, 'LocalVisBackend'])
def test_present_package(monkeypatch, backend):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    check_visualization(with_backends(backend))


@pytest.mark.habits
def test_all_backends_of_mmengine_are_known():
    classes = [each for each in vars(backends).values() if isinstance(each, type)]
    names = {each.__name__ for each in classes if issubclass(each, BaseVisBackend)}
    assert names - {'BaseVisBackend', 'LocalVisBackend'} == {*PACKAGES_OF_BACKENDS}


@pytest.mark.habits
@pytest.mark.parametrize('visualizer', [None, {}, {'vis_backends': None}])
def test_no_backends(visualizer):
    check_visualization(Config({'visualizer': visualizer}))
