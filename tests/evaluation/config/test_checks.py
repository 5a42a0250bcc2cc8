"""Checks of configs: no false alarm on any that works, and every slip named."""

import argparse
import inspect
import os
import re
import warnings
from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor
from torch import nn
from torch.utils.data import DataLoader

from backbones import LayerDecayConstructor
from evaluation.config.checks import check_batch_norm, check_config, check_image_sizes
from evaluation.config.keywords import WELL_KNOWN, Others, check_keywords, signature_keywords
from evaluation.config.options import add_overrides, find, merge_options, read_value
from evaluation.config.reading import check_imports, read_config
from evaluation.config.text import read_literals
from evaluation.config.types import check_types, registered, setting
from evaluation.engine import experiment
from evaluation.utils.errors import UserError
from tests.commands import ROOT

LEAVES = sorted([*(ROOT / 'configs').glob('*.py'), *(ROOT / 'configs/demo').glob('*.py')])
LOADERS = ('train_dataloader', 'val_dataloader')


@pytest.fixture
def mask_rcnn():
    return read_config(str(ROOT / 'configs/mask_rcnn_swin_micro.py'))


@pytest.fixture
def upernet():
    return read_config(str(ROOT / 'configs/upernet_dcn_micro.py'))


def refusal(check, *arguments):
    """The one line by which a check refuses."""
    with pytest.raises(UserError) as caught:
        check(*arguments)
    (line,) = str(caught.value).splitlines()
    return line


def configs_of(library, step):
    """Every so many of the configs that mmdet and mmseg ship."""
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
        """They use nearly every class of both, many in ways that no signature shows."""
        checked = 0
        for file in configs_of(library, step=31):
            try:
                cfg = Config.fromfile(file)
            except ImportError:  # of a package that the suite does not need
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

    def test_all_that_the_constructor_of_optimizers_reads(self, mask_rcnn):
        constructors = DefaultOptimWrapperConstructor, LayerDecayConstructor
        source = ''.join(map(inspect.getsource, constructors))
        read = set(re.findall(r"paramwise_cfg\.get\(\s*'(\w+)'", source))
        assert read == WELL_KNOWN['paramwise_cfg']
        options = {f'optim_wrapper.paramwise_cfg.{name}': 2 for name in read - {'custom_keys'}}
        assert merge_options(mask_rcnn, options) == []
        check_config(mask_rcnn, LOADERS, processes=1)


class TestKeywords:
    def test_class_without_var_keywords(self):
        known = signature_keywords(torch.optim.SGD)
        assert {'lr', 'momentum', 'nesterov'} <= known.names
        assert known.others == Others.REFUSED
        assert known.refuse('momentun')
        assert known.refuse('anything')
        assert not known.refuse('momentum')

    def test_base_class_that_var_keywords_reach(self):
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

    def test_class_that_takes_anything(self):
        class Open:
            def __init__(self, scales, **settings):
                pass

        known = signature_keywords(Open)
        assert known.others == Others.UNKNOWN
        assert not known.refuse('scale')

    def test_function(self):
        assert signature_keywords(check_config).names == {'cfg', 'loaders', 'processes'}

    def test_class_without_an_init_of_its_own(self):
        class Loader(DataLoader):
            pass

        assert signature_keywords(Loader) == signature_keywords(DataLoader)

    def test_registries(self):
        (entry,) = registered('UPerHead', 'mmseg')
        assert entry[0] == 'model'
        assert registered('UPerHead', 'mmdet') == []
        # One is for boxes, the other for images.
        assert {name for name, _ in registered('RandomSampler', 'mmdet')} >= {'task util'}
        assert registered(nn.Linear, 'mmdet') == [('', nn.Linear)]

    def test_setting_that_only_the_holder_reads(self, mask_rcnn):
        # FCNMaskHead takes it out before the rest is handed on.
        mask_rcnn.model.roi_head.mask_head.upsample_cfg = ConfigDict(type='deconv', scale_factor=2)
        check_keywords(mask_rcnn)
        mask_rcnn.model.roi_head.mask_head.upsample_cfg.scale_facto = 2
        line = refusal(check_keywords, mask_rcnn)
        assert line.startswith(
            'model.roi_head.mask_head.upsample_cfg.scale_facto is no setting of deconv'
        )

    @pytest.mark.parametrize(
        ('place', 'line'),
        [
            ('model.roi_head.bbox_head.num_clases', 'did you mean num_classes?'),
            ('train_dataloader.dataset.pipeline.2.scal', 'is no setting of Resize; did you mean scale?'),
            ('val_evaluator.ann_fil', 'did you mean ann_file?'),
            ('param_scheduler.1.gama', 'is no setting of MultiStepLR; did you mean gamma?'),
            ('default_hooks.logger.interva', 'did you mean interval?'),
            ('env_cfg.mp_cfg.mp_start_metod', 'did you mean mp_start_method?'),
            ('visualizer.vis_backend', 'did you mean vis_backends?'),
        ],
    )
    def test_slips(self, mask_rcnn, place, line):
        holder, _, name = place.rpartition('.')
        setting(mask_rcnn, holder)[name] = 1
        said = refusal(check_config, mask_rcnn, LOADERS, 1)
        assert said.startswith(f'{place} is no setting')
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
        assert said == f'{place}={value!r} is not known; did you mean {near}?'


class TestOptions:
    def test_merge(self, mask_rcnn):
        options = {'train_dataloader.batch_size': 4, 'param_scheduler.0.end': 10}
        assert merge_options(mask_rcnn, options) == []
        assert mask_rcnn.train_dataloader.batch_size == 4
        assert mask_rcnn.param_scheduler[0].end == 10
        assert mask_rcnn.param_scheduler[0].type == 'LinearLR'

    def test_settings_where_there_was_none(self, mask_rcnn):
        mask_rcnn.model.backbone.init_cfg = None
        merge_options(mask_rcnn, {'model.backbone.init_cfg.type': 'Pretrained'})
        assert mask_rcnn.model.backbone.init_cfg == {'type': 'Pretrained'}

    @pytest.mark.parametrize(
        ('option', 'reason'),
        [
            ('trian_cfg.max_epochs', 'the config has no trian_cfg; did you mean train_cfg?'),
            ('norm_cfg.type', 'norm_cfg was copied when the config was read; '
             'override model.decode_head.norm_cfg instead'),
            ('train_pipeline.0.type', 'train_pipeline was copied when the config was read; '
             'override train_dataloader.dataset.pipeline instead'),
            ('data_root', '--data-root sets it'),
            ('default_hooks.checkpoint.intervall', 'default_hooks.checkpoint has no intervall; '
             'did you mean interval?'),
            ('env_cfg.cudnn_bench', 'env_cfg has no cudnn_bench; did you mean cudnn_benchmark?'),
            ('model.decode_head.sampler_cfg', 'model.decode_head has no sampler_cfg; '
             'did you mean sampler?'),
            ('optim_wrapper.paramwise_cfg.bias_lr_mul', 'optim_wrapper.paramwise_cfg has no '
             'bias_lr_mul; did you mean bias_lr_mult?'),
            ('optim_wrapper.clip_grad.maxnorm', 'optim_wrapper.clip_grad has no maxnorm; '
             'did you mean max_norm?'),
            ('env_cfg.dist_cfg.time_out', 'env_cfg.dist_cfg has no time_out; did you mean timeout?'),
            # A plain dict: what reads it is not known, but what else it has.
            ('model.test_cfg.mod', 'model.test_cfg has no mod; did you mean mode?'),
        ],
    )  # fmt: skip
    def test_what_nothing_reads(self, upernet, option, reason):
        (warning,) = merge_options(upernet, {option: 'x'})
        assert warning == f'nothing is known to read {option}: {reason}'

    @pytest.mark.parametrize(
        ('option', 'value', 'line'),
        [
            ('train_dataloader.batch_size', 'two', "train_dataloader.batch_size='two': give a number"),
            ('train_dataloader.persistent_workers', 'no', "'no': give True or False"),
            ('model.backbone.dims', 'wide', "model.backbone.dims='wide': give a list such as [1,2]"),
            ('param_scheduler', {'type': 'LinearLR'}, ': give a list such as [1,2]'),
            ('train_dataloader.batch_size', {'a': 1}, "={'a': 1}: give a number"),
            (
                'model.backbone',
                3,
                'model.backbone=3: give single settings, as model.backbone.NAME=VALUE',
            ),
            ('param_scheduler.2.end', 3, 'param_scheduler has the entries 0 to 1, none called 2'),
            ('param_scheduler.first.end', 3, 'none called first'),
            ('data_root.x', 3, "data_root is 'data/ade/ADEChallengeData2016', without settings"),
            ('model.backbone.dims.0.x', 3, 'model.backbone.dims.0 is 32, without settings'),
        ],
    )
    def test_what_cannot_be(self, upernet, option, value, line):
        assert line in refusal(merge_options, upernet, {option: value})

    def test_slip_in_what_a_hook_hands_on(self, upernet):
        options = {'default_hooks.ema.type': 'EMAHook', 'default_hooks.ema.momentun': 0.1}
        (warning,) = merge_options(upernet, options)
        assert warning.endswith('default_hooks.ema has no momentun; did you mean momentum?')

    def test_entries_of_lists(self, upernet):
        options = {
            'model.backbone.dims.0': 48,
            'param_scheduler.1': dict(type='CosineAnnealingLR', _delete_=True),
            'custom_hooks': [dict(type='EMAHook', ema=dict(a=1))],
            'model.decode_head.in_channels': [1, 2, 3, 4],
            'model.auxiliary_head.in_channels': [9],
        }
        dims = [48, *upernet.model.backbone.dims[1:]]
        merge_options(upernet, options)
        assert upernet.model.backbone.dims == dims
        assert upernet.param_scheduler[1] == dict(type='CosineAnnealingLR')
        # mmengine reads settings as attributes.
        assert upernet.custom_hooks[0].ema.a == 1
        assert upernet.model.auxiliary_head.in_channels == [9]

    def test_settings_in_a_new_place(self, upernet):
        # The list is new, and so are all settings in it.
        assert merge_options(upernet, {'custom_hooks': [dict(type='EMAHook')]}) == []
        merge_options(upernet, {'custom_hooks.0.momentum': 0.1})
        assert upernet.custom_hooks == [dict(type='EMAHook', momentum=0.1)]

    def test_settings_for_a_plain_value(self, upernet):
        merge_options(upernet, {'optim_wrapper.loss_scale': 'dynamic'})
        merge_options(upernet, {'optim_wrapper.loss_scale': dict(init_scale=512)})
        assert upernet.optim_wrapper.loss_scale == dict(init_scale=512)

    @pytest.mark.parametrize('value', [None, True, 0, 1])
    def test_switches(self, upernet, value):
        merge_options(upernet, {'train_dataloader.persistent_workers': value})
        assert upernet.train_dataloader.persistent_workers is value

    def test_find(self, upernet):
        assert find(upernet, 'model.backbone.new.deep') == (
            upernet.model.backbone, 'model.backbone', 'new', ['deep'],
        )  # fmt: skip
        assert find(upernet, 'param_scheduler.1.end')[1:] == ('param_scheduler.1', 'end', [])


class TestValues:
    @pytest.mark.parametrize(
        ('text', 'value'),
        [
            ('(1,2)', (1, 2)),
            ('[1,2]', [1, 2]),
            ("'(320,256)'", (320, 256)),
            ('"[(1,2),(3,4)]"', [(1, 2), (3, 4)]),
            ('[(1,2),(3,4)]', [(1, 2), (3, 4)]),
            ('(1,2),(3,4)', ((1, 2), (3, 4))),
            ('word', 'word'),
            ("'word'", 'word'),
            ('1,2', [1, 2]),
            ('a,b', ['a', 'b']),
            ('[a,b]', ['a', 'b']),
            ('[1,true,None,x]', [1, True, None, 'x']),
            ('True', True),
            ('false', False),
            ('None', None),
            ('1e-3', 1e-3),
            ('-4', -4),
            ("('disc','square')", ('disc', 'square')),
            ("[{'type':'EMAHook','momentum':0.1}]", [{'type': 'EMAHook', 'momentum': 0.1}]),
            ("{'a': {'b': [1]}, 'c': ')'}", {'a': {'b': [1]}, 'c': ')'}),
            ('', ''),
            ('epoch_{}.pth', 'epoch_{}.pth'),
            ('../data/a.json', '../data/a.json'),
            ('...', '...'),
            ('2and3', '2and3'),
            ('1j', '1j'),
        ],
    )
    def test_forms(self, text, value):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            read = read_value(text)
        assert read == value
        assert type(read) is type(value)

    @pytest.mark.parametrize(
        'text',
        [
            '[dict(type=EMAHook,momentum=0.1)]',
            '[{type:EMAHook}]',
            "[{'type':'EMAHook']",
            '{[1]}',
            '{1,2}',
            ')1,2(',
            '[' * 5000 + ']' * 5000,
        ],
        ids=lambda text: text[:20],
    )
    def test_what_is_none(self, text):
        parser = argparse.ArgumentParser(exit_on_error=False)
        add_overrides(parser)
        with pytest.raises(argparse.ArgumentError, match='is no Python value; quote words in it'):
            parser.parse_args(['--cfg-options', f'a={text}'])

    @pytest.mark.parametrize(
        'text',
        ['a = {[1]}', 'a = dict(b={[1]})', 'a = (', 'a = "\0"', 'b = 1\na = {{1}}',
         f'a = {"-" * 5000}1', f'a = 1{"+1" * 5000}', f'a = b{".c" * 5000}',
         'a = ' + 'dict(b=' * 5000 + '1' + ')' * 5000],
        ids=lambda text: text[:20],
    )  # fmt: skip
    def test_text_in_a_checkpoint_that_cannot_be_read(self, text):
        assert read_literals(text) == {}


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
            ('val_evaluator', None, 'val_evaluator is None; without validation'),
            ('model.neck.in_channels', [1, 2, 3, 4], 'give model.neck.in_channels=[32, 64, 128, 256]'),
            ('model.backbone.out_indices', [0, 1, 2], 'give model.neck.in_channels=[32, 64, 128]'),
        ],
    )
    def test_refused(self, mask_rcnn, place, value, line):
        holder, _, name = place.rpartition('.')
        setting(mask_rcnn, holder)[name] = value
        assert line in refusal(check_config, mask_rcnn, LOADERS, 1)

    @pytest.mark.parametrize('hooks', ['EMAHook', {'type': 'EMAHook'}, 3])
    def test_hooks_that_are_no_list(self, mask_rcnn, hooks):
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
    def test_hooks_that_are_no_settings(self, mask_rcnn, entry):
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

    def test_testing_is_free_of_it(self, upernet):
        upernet.train_dataloader.batch_size = 1
        check_config(upernet, ('test_dataloader',), 1)

    def test_torch_still_says_so(self):
        """The safety net knows torch's error by its words."""

        def train():
            with experiment.backbone_errors_reported():
                nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))

        line = refusal(train)
        assert 'one value a channel (input size torch.Size([1, 3, 1, 1]))' in line


class TestImports:
    def test_follows_them_all(self):
        files = check_imports(ROOT / 'configs/demo/upernet_dcn_micro.py')
        names = ['demo/upernet_dcn_micro.py', '_base_/backbones/dcn.py', '_base_/demo_upernet.py']
        names += ['_base_/upernet_ade20k_160k.py', '_base_/runtime.py']
        assert files == [ROOT / 'configs' / name for name in names]

    def test_every_way_to_bind_a_name(self, tmp_path):
        text = (
            'import os\nfrom torch import nn as layers\na = b, (c, d) = 1, (2, 3)\nfor e in a: f = e\n'
        )
        (tmp_path / 'base.py').write_text(text)
        leaf = tmp_path / 'leaf.py'
        opening = 'from mmengine.config import read_base\nwith read_base():\n    from .base import '
        leaf.write_text(opening + 'os, layers, a, b, c, d, e, f as g\n')
        check_imports(leaf)
        leaf.write_text(opening + 'g\n')
        assert refusal(check_imports, leaf).startswith(f'config {leaf}, line 3: base.py has no g')

    def test_pages_that_import_each_other(self, tmp_path):
        for one, other in (('a', 'b'), ('b', 'a')):
            text = f'with read_base():\n    from .{other} import *\n{one} = 1\n'
            (tmp_path / f'{one}.py').write_text(text)
        assert len(check_imports(tmp_path / 'a.py')) == 2

    @pytest.mark.parametrize('content', [b'a = "\xff"\n', b'a = 1\x00\n'])
    def test_no_text(self, tmp_path, content):
        file = tmp_path / 'config.py'
        file.write_bytes(content)
        assert str(file) in refusal(check_imports, file)


class TestWorkDir:
    def test_leaves_nothing(self, tmp_path):
        experiment.check_work_dir(tmp_path / 'a/b')
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('name', 'line'),
        [('.', 'is not writable; choose'), ('a/b', 'is not writable: {folder} is not; choose')],
    )
    def test_shut(self, tmp_path, monkeypatch, name, line):
        monkeypatch.setattr(os, 'access', lambda path, mode: Path(path) != tmp_path)
        said = refusal(experiment.check_work_dir, tmp_path / name)
        assert line.format(folder=tmp_path) in said


def test_tensorboard_that_is_not_installed(mask_rcnn, monkeypatch):
    monkeypatch.setattr(experiment.importlib.util, 'find_spec', lambda name: None)
    assert 'pip install tensorboard' in refusal(experiment.write_tensorboard, mask_rcnn)
