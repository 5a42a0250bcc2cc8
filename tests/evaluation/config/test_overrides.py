"""Overrides from the command line."""

import argparse
import warnings

import pytest

from evaluation.config.overrides import add_overrides, find, merge_options, read_value
from tests.refusals import refusal


class TestOptions:
    def test_merge(self, mask_rcnn):
        options = {'train_dataloader.batch_size': 4, 'param_scheduler.0.end': 10}
        assert merge_options(mask_rcnn, options) == []
        assert mask_rcnn.train_dataloader.batch_size == 4
        assert mask_rcnn.param_scheduler[0].end == 10
        assert mask_rcnn.param_scheduler[0].type == 'LinearLR'

    def test_settings_in_place_of_none(self, mask_rcnn):
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
            ('data_root', 'use --data-root instead'),
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
            # The reader of a plain dict is unknown, but its other keys are known.
            ('model.test_cfg.mod', 'model.test_cfg has no mod; did you mean mode?'),
        ],
    )  # fmt: skip
    def test_unread_settings(self, upernet, option, reason):
        (warning,) = merge_options(upernet, {option: 'x'})
        assert warning == f'{option} may have no effect: {reason}'

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
                'model.backbone=3: give individual settings, such as model.backbone.NAME=VALUE',
            ),
            ('param_scheduler.2.end', 3, 'param_scheduler has no entry 2; give 0 to 1'),
            ('param_scheduler.first.end', 3, 'has no entry first'),
            ('data_root.x', 3, "data_root is 'data/ade/ADEChallengeData2016' and has no settings"),
            ('model.backbone.dims.0.x', 3, 'model.backbone.dims.0 is 32 and has no settings'),
        ],
    )
    def test_invalid_overrides(self, upernet, option, value, line):
        assert line in refusal(merge_options, upernet, {option: value})

    def test_misspelled_keyword_that_a_hook_passes_on(self, upernet):
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
        # The list and all settings in it are new.
        assert merge_options(upernet, {'custom_hooks': [dict(type='EMAHook')]}) == []
        merge_options(upernet, {'custom_hooks.0.momentum': 0.1})
        assert upernet.custom_hooks == [dict(type='EMAHook', momentum=0.1)]

    def test_settings_in_place_of_a_plain_value(self, upernet):
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
    def test_invalid_values(self, text):
        parser = argparse.ArgumentParser(exit_on_error=False)
        add_overrides(parser)
        with pytest.raises(argparse.ArgumentError, match='not a Python value; quote words in it'):
            parser.parse_args(['--cfg-options', f'a={text}'])
