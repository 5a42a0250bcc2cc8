"""Types and keys in configs: no false alarms, and every misspelling is named."""

import inspect
import re
from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.utils.data import DataLoader

from backbones import LayerDecayConstructor
from evaluation.config.config_files import read_config
from evaluation.config.overrides import merge_options
from evaluation.config.settings import (
    PARAMWISE_OF,
    Others,
    check_keywords,
    check_types,
    registered,
    setting,
    signature_keywords,
)
from evaluation.config.whole_config import check_config
from tests.commands import ROOT
from tests.refusals import refusal

LEAVES = sorted([*(ROOT / 'configs').glob('*.py'), *(ROOT / 'configs/demo').glob('*.py')])
LOADERS = ('train_dataloader', 'val_dataloader')


def configs_of(library, step):
    """Return every `step`-th config that a library ships."""
    folder = Path(library.__file__).parent / '.mim/configs'
    files = sorted(file for file in folder.glob('*/*.py') if '_base_' not in file.parts)
    assert len(files) > 500
    return files[::step]


class TestNoFalseAlarm:
    @pytest.mark.parametrize('leaf', LEAVES, ids=lambda leaf: leaf.stem)
    def test_configs_of_the_suite(self, leaf):
        check_config(read_config(str(leaf)), (*LOADERS, 'test_dataloader'), processes=1)

    @pytest.mark.parametrize('library', [mmdet, mmseg], ids=['mmdet', 'mmseg'])
    def test_configs_of_the_libraries(self, library):
        """They use nearly every class of both libraries, often with keys that no signature shows."""
        checked = 0
        for file in configs_of(library, step=31):
            try:
                cfg = Config.fromfile(file)
            except ImportError:  # a package that the suite does not need
                continue
            if 'default_scope' in cfg:
                check_types(cfg)
                check_keywords(cfg)
                checked += 1
        assert checked > 15

    @pytest.mark.parametrize(
        'option',
        [
            {'model.backbone.with_cp': True},
            {'model.backbone.init_cfg.checkpoint': 'x.pth'},
            {'model.init_cfg': None},
            {
                'model.backbone.init_cfg': dict(
                    type='Pretrained', checkpoint='x.pth', prefix='a', key='ema'
                )
            },
            {'train_dataloader.prefetch_factor': 2},
            {'train_dataloader.dataset.indices': 16},
            {'train_dataloader.dataset.metainfo.classes': ['a']},
            {'train_dataloader.num_batch_per_epoch': 2},
            {'optim_wrapper.clip_grad.max_norm': 1},
            {'optim_wrapper.accumulative_counts': 2},
            {'optim_wrapper.paramwise_cfg.custom_keys.stem.decay_mult': 0},
            {'default_hooks.checkpoint.max_keep_ckpts': 2},
            {'default_hooks.runtime_info.type': 'RuntimeInfoHook'},
            {'param_scheduler.1.convert_to_iter_based': True},
            {'custom_hooks': [dict(type='EMAHook', priority=49)]},
            {'env_cfg.resource_limit': 8192},
            {'find_unused_parameters': True},
            {'log_processor.num_digits': 3},
            {'model.roi_head.mask_roi_extractor.roi_layer.aligned': False},
            {'train_cfg.val_begin': 2},
            {'visualizer.save_dir': 'x'},
            {'default_hooks.ema.type': 'EMAHook', 'default_hooks.ema.momentum': 0.1},
            {'default_hooks.ema': dict(type='EMAHook', ema_type='MomentumAnnealingEMA', gamma=9)},
            {'default_hooks.ema.update_buffers': True, 'default_hooks.ema.type': 'EMAHook'},
            {'env_cfg.dist_cfg.timeout': 1800},
            {
                'param_scheduler.1.eta_min_ratio': 0.1,
                'param_scheduler.1': dict(type='CosineAnnealingLR', _delete_=True, eta_min_ratio=0.1),
            },
            {'model.test_cfg.rcnn.nms.split_thr': 1000},
            {'model.init_cfg': dict(type='Pretrained', checkpoint='x.pth')},
        ],
        ids=lambda option: next(reversed(option)),
    )
    def test_new_settings_that_are_read(self, mask_rcnn, option):
        assert merge_options(mask_rcnn, option) == []
        check_config(mask_rcnn, LOADERS, processes=1)

    def test_sliding_windows(self, upernet):
        window = {'mode': 'slide', 'crop_size': (64, 64), 'stride': (42, 42)}
        options = {f'model.test_cfg.{name}': value for name, value in window.items()}
        assert merge_options(upernet, options) == []
        check_config(upernet, LOADERS, processes=1)
        assert upernet.model.test_cfg == window

    def test_all_keys_of_the_optimizer_constructor(self, mask_rcnn):
        constructors = DefaultOptimWrapperConstructor, LayerDecayConstructor
        source = ''.join(map(inspect.getsource, constructors))
        read = set(re.findall(r"paramwise_cfg\.get\(\s*'(\w+)'", source))
        assert read == PARAMWISE_OF['LayerDecayConstructor']
        assert read - PARAMWISE_OF['DefaultOptimWrapperConstructor'] == {'layer_decay_rate'}
        options = {f'optim_wrapper.paramwise_cfg.{name}': 2 for name in read - {'custom_keys'}}
        options['optim_wrapper.paramwise_cfg.layer_decay_rate'] = 1
        options['optim_wrapper.constructor'] = 'LayerDecayConstructor'
        assert merge_options(mask_rcnn, options) == []
        check_config(mask_rcnn, LOADERS, processes=1)


class TestParamwise:
    """mmengine ignores unknown keys here."""

    @pytest.mark.parametrize(
        ('constructor', 'name', 'end'),
        [
            (None, 'norm_decay_mul', 'DefaultOptimWrapperConstructor; did you mean norm_decay_mult?'),
            ('mmengine.DefaultOptimWrapperConstructor', 'anything', 'DefaultOptimWrapperConstructor'),
            ('LayerDecayConstructor', 'layer_decay', '; did you mean layer_decay_rate?'),
            (LayerDecayConstructor, 'custom_key', '; did you mean custom_keys?'),
            (None, 'layer_decay_rate', "; give optim_wrapper.constructor='LayerDecayConstructor'"),
        ],
    )
    def test_misspellings(self, mask_rcnn, constructor, name, end):
        mask_rcnn.optim_wrapper.constructor = constructor
        mask_rcnn.optim_wrapper.paramwise_cfg = {name: 0.5}
        said = refusal(check_config, mask_rcnn, LOADERS, 1)
        assert said.startswith(f'optim_wrapper.paramwise_cfg.{name} is not a setting of ')
        assert said.endswith(end)

    def test_unknown_constructor(self, mask_rcnn):
        mask_rcnn.optim_wrapper.constructor = 'LearningRateDecayOptimizerConstructor'
        mask_rcnn.optim_wrapper.paramwise_cfg = {'decay_rate': 0.7, 'num_layers': 12}
        check_keywords(mask_rcnn)


class TestKeywords:
    def test_class_without_var_keywords(self):
        known = signature_keywords(torch.optim.SGD)
        assert {'lr', 'momentum', 'nesterov'} <= known.names
        assert known.others == Others.REFUSED
        assert known.refuse('momentun')
        assert known.refuse('anything')
        assert not known.refuse('momentum')

    def test_base_class_receives_var_keywords(self):
        class Base:
            def __init__(self, channels):
                pass

        class Head(Base):
            def __init__(self, scales, **kwargs):
                super().__init__(**kwargs)

        known = signature_keywords(Head)
        assert known.names == {'channels', 'scales'}
        assert known.others == Others.LIKELY_REFUSED
        assert known.refuse('chanels')
        # Head may have dropped it before it reaches Base.
        assert not known.refuse('anything')

    def test_class_that_accepts_anything(self):
        class Open:
            def __init__(self, scales, **settings):
                pass

        known = signature_keywords(Open)
        assert known.others == Others.UNKNOWN
        assert not known.refuse('scale')

    def test_function(self):
        assert signature_keywords(check_config).names == {'cfg', 'loaders', 'processes'}

    def test_class_without_its_own_init(self):
        class Loader(DataLoader):
            pass

        assert signature_keywords(Loader) == signature_keywords(DataLoader)

    def test_registries(self):
        (entry,) = registered('UPerHead', 'mmseg')
        assert entry[0] == 'model'
        assert registered('UPerHead', 'mmdet') == []
        # One samples boxes, the other images.
        assert {name for name, _ in registered('RandomSampler', 'mmdet')} >= {'task util'}
        assert registered(nn.Linear, 'mmdet') == [('', nn.Linear)]

    def test_setting_that_only_the_enclosing_class_reads(self, mask_rcnn):
        # FCNMaskHead removes it before it passes on the rest.
        mask_rcnn.model.roi_head.mask_head.upsample_cfg = ConfigDict(type='deconv', scale_factor=2)
        check_keywords(mask_rcnn)
        # A custom class may remove any key; the rest is checked when it is built.
        mask_rcnn.model.roi_head.mask_head.upsample_cfg.own = 2
        check_keywords(mask_rcnn)
        mask_rcnn.model.roi_head.mask_head.upsample_cfg.scale_facto = 2
        line = refusal(check_keywords, mask_rcnn)
        assert line.startswith(
            'model.roi_head.mask_head.upsample_cfg.scale_facto is not a setting of deconv'
        )

    @pytest.mark.parametrize(
        ('place', 'line'),
        [
            ('model.roi_head.bbox_head.num_clases', 'did you mean num_classes?'),
            (
                'train_dataloader.dataset.pipeline.2.scal',
                'is not a setting of Resize; did you mean scale?',
            ),
            ('val_evaluator.ann_fil', 'did you mean ann_file?'),
            ('param_scheduler.1.gama', 'is not a setting of MultiStepLR; did you mean gamma?'),
            ('default_hooks.logger.interva', 'did you mean interval?'),
            ('env_cfg.mp_cfg.mp_start_metod', 'did you mean mp_start_method?'),
            ('model.roi_head.bbox_head.loss_cls.loss_weigth', 'did you mean loss_weight?'),
            ('optim_wrapper.optimizer.weight_deca', 'did you mean weight_decay?'),
            ('optim_wrapper.clip_grad.maxnorm', 'did you mean max_norm?'),
            ('visualizer.vis_backend', 'did you mean vis_backends?'),
        ],
    )
    def test_misspellings(self, mask_rcnn, place, line):
        holder, _, name = place.rpartition('.')
        mask_rcnn.optim_wrapper.clip_grad = dict(norm_type=2)
        setting(mask_rcnn, holder)[name] = 1
        said = refusal(check_config, mask_rcnn, LOADERS, 1)
        assert said.startswith(f'{place} is not a setting')
        assert line in said

    @pytest.mark.parametrize(
        ('place', 'value', 'near'),
        [
            ('model.type', 'MaskRCN', 'MaskRCNN'),
            ('model.backbone.type', 'UnifedBackbone', 'UnifiedBackbone'),
            ('train_dataloader.dataset.type', 'CocoDatset', 'CocoDataset'),
            ('train_dataloader.dataset.pipeline.2.type', 'Resise', 'Resize'),
            ('param_scheduler.0.type', 'LinearLr', 'LinearLR'),
            ('default_hooks.timer.type', 'IterTimeHook', 'IterTimerHook'),
            ('optim_wrapper.type', 'AmpOptimWraper', 'AmpOptimWrapper'),
        ],
    )
    def test_types(self, mask_rcnn, place, value, near):
        holder, _, name = place.rpartition('.')
        setting(mask_rcnn, holder)[name] = value
        said = refusal(check_types, mask_rcnn)
        assert said == f'{place}={value!r} is unknown; did you mean {near}?'
