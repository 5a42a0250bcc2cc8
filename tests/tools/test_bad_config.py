"""Bad configs and options: status 2 and one error line before the model is built, nothing written."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
import torch

from tests.commands import ROOT

KIND = 'Configs and options'
# Overrides without effect, by their description on the page of errors.
UNREAD = {
    'an override of a misspelled section of the config': 'trian_cfg.max_epochs',
    'an override of a value that the config has already copied': 'train_pipeline.1.reduce_zero_label',
    'an override of a setting that has its own option': 'launcher',
}


@pytest.fixture
def configs(tmp_path_factory):
    """A copy of the config files, to be damaged."""
    folder = tmp_path_factory.mktemp('configs')
    shutil.copytree(ROOT / 'configs', folder / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    return folder / 'configs'


def append(file, text):
    """Add lines to a config; return the number of the first."""
    lines = file.read_text().splitlines()
    file.write_text('\n'.join([*lines, text, '']))
    return len(lines) + 1


class TestFile:
    @pytest.mark.parametrize(
        ('given', 'name', 'messages'),
        [
            (
                'a misspelled config file name',
                'demo/mask_rcnn_swim_micro.py',
                ['mask_rcnn_swim_micro.py is not a file', 'did you mean', 'mask_rcnn_swin_micro.py'],
            ),
            (
                'a config for a scale that does not exist',
                'mask_rcnn_dcn_large.py',
                ['is not a file; did you mean', 'mask_rcnn_dcn_base.py'],
            ),
            ('a folder instead of a config', 'demo', ['demo is a folder']),
        ],
    )
    def test_name(self, train, tmp_path, refused, given, name, messages):
        refused(KIND, given, train(ROOT / 'configs' / name), *messages)
        assert not list(tmp_path.iterdir())

    def test_different_kind_of_file(self, train, tmp_path, refused):
        file = tmp_path / 'weights.pth'
        file.write_bytes(b'\x80\x02')
        refused(KIND, 'a checkpoint instead of a config', train(file), f'{file} is not a .py file')
        assert list(tmp_path.iterdir()) == [file]

    def test_syntax_error(self, train, configs, tmp_path, refused):
        leaf = configs / 'demo/upernet_dcn_micro.py'
        line = append(leaf, 'model.update(')
        given = 'a config with a syntax error'
        refused(KIND, given, train(leaf), f"{leaf}, line {line}: syntax error: '(' was never closed")
        assert not list(tmp_path.iterdir())

    def test_syntax_error_in_a_page_that_it_imports(self, train, configs, tmp_path, refused):
        page = configs / '_base_/backbones/dcn.py'
        line = append(page, 'dcn_huge = dict(depths=[1, 2)')
        outcome = train(configs / 'demo/upernet_dcn_micro.py')
        refused(
            KIND, 'a config that imports a page with a syntax error', outcome, f'{page}, line {line}'
        )
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('given', 'text', 'replacement', 'messages'),
        [
            (
                'a config that imports an undefined name',
                'import dcn_micro as backbone',
                'import dcn_macro as backbone',
                ['line 6: dcn.py has no dcn_macro; did you mean dcn_micro?'],
            ),
            (
                'a config that imports a missing page',
                'from .._base_.backbones.dcn',
                'from .._base_.backbones.dnc',
                ['line 6: there is no dnc.py in backbones/', 'did you mean dcn?'],
            ),
            (
                'a config that uses an undefined name',
                'del backbone',
                'del bakcbone',
                ["line 15: NameError: name 'bakcbone' is not defined"],
            ),
        ],
    )
    def test_names(self, train, configs, tmp_path, refused, given, text, replacement, messages):
        leaf = configs / 'demo/upernet_dcn_micro.py'
        assert text in leaf.read_text()
        leaf.write_text(leaf.read_text().replace(text, replacement))
        refused(KIND, given, train(leaf), f'{leaf}, ', *messages)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('given', 'line', 'message'),
        [
            (
                'a recipe with a misspelled key',
                'recipe.update(imges=48)',
                'recipe has no imges; did you',
            ),
            ('a recipe with an unknown task', "recipe.update(task='depth')", "recipe.task is 'depth'"),
            (
                'a recipe for a different task than the model',
                "recipe.update(task='classification')",
                'the model is for',
            ),
            ('a config without a recipe', 'recipe = None', 'declares no recipe'),
            ('a contestant that is not a dict', "contestant = 'swin'", 'contestant = dict(name='),
        ],
    )
    def test_recipe_and_contestant(self, train, configs, tmp_path, refused, given, line, message):
        leaf = configs / 'demo/upernet_dcn_micro.py'
        append(leaf, line)
        refused(KIND, given, train(leaf), message)
        assert not list(tmp_path.iterdir())

    def test_missing_module(self, train, configs, tmp_path, refused):
        leaf = configs / 'demo/upernet_dcn_micro.py'
        line = append(leaf, "custom_imports.imports.append('evaluation.registratoin')")
        place = f'{leaf}, line {line}: there is no module evaluation.registratoin'
        given = 'a config that imports a missing module'
        refused(KIND, given, train(leaf), place, 'did you mean evaluation.registration?')
        assert not list(tmp_path.iterdir())

    def test_joined_annotation_files(self, train, configs, trials, tmp_path, refused):
        leaf = configs / 'demo/mask_rcnn_swin_micro.py'
        joined = "dict(type='ConcatDataset', datasets=[{**val_dataloader['dataset']}] * 2)"
        append(leaf, f"val_dataloader = {{**val_dataloader, 'dataset': {joined}}}")
        outcome = train(leaf, *trials['mask_rcnn'].arguments()[:2])
        refused(KIND, 'a validation set of two concatenated COCO files', outcome, 'joins 2 data sets')
        assert not list(tmp_path.iterdir())

    def test_page_instead_of_leaf(self, train, tmp_path, refused):
        given = 'a config without a backbone'
        outcome = train(ROOT / 'configs/_base_/mask_rcnn_coco_1x.py')
        refused(KIND, given, outcome, 'mask_rcnn_coco_1x.py has no model.backbone; give a leaf')
        assert not list(tmp_path.iterdir())


class TestOptions:
    @pytest.mark.parametrize(
        ('given', 'task', 'option', 'messages'),
        [
            (
                'an override without `=`',
                'upernet',
                'train_dataloader.batch_size',
                ["'train_dataloader.batch_size' is not KEY=VALUE"],
            ),
            (
                'an override with an unmatched bracket',
                'upernet',
                'a=[1',
                ["'a=[1': the brackets do not match"],
            ),
            (
                'an override that calls a function',
                'upernet',
                'custom_hooks=[dict(type=EMAHook,momentum=0.1)]',
                ["not a Python value; quote words in it, as in [{'type':'EMAHook'}]"],
            ),
            (
                'a hook given only by name',
                'upernet',
                'custom_hooks=[EMAHook]',
                ["custom_hooks.0='EMAHook': give settings, such as {'type': 'NAME'}"],
            ),
            (
                'an override of an unknown setting of a data loader',
                'upernet',
                'train_dataloader.batchsize=4',
                ['train_dataloader.batchsize is not a setting', 'did you mean batch_size?'],
            ),
            (
                'an override of an unknown setting of the model',
                'mask_rcnn',
                'model.backbon.depths=[1,1,1,1]',
                ['model.backbon is not a setting of MaskRCNN', 'did you mean backbone?'],
            ),
            (
                'an override of an unknown setting of the backbone',
                'mask_rcnn',
                'model.backbone.drop_path=0.1',
                ['is not a setting of UnifiedBackbone', 'did you mean drop_path_rate?'],
            ),
            (
                'an override of an unknown setting of the optimizer',
                'mask_rcnn',
                'optim_wrapper.optimizer.LR=0.1',
                ['optim_wrapper.optimizer.LR is not a setting of AdamW', 'did you mean lr?'],
            ),
            (
                'an override of an unknown setting of the decode head',
                'upernet',
                'model.decode_head.chanels=3',
                ['model.decode_head.chanels is not a setting of UPerHead', 'did you mean channels?'],
            ),
            (
                'an override that adds a hook without a type',
                'upernet',
                'default_hooks.chekpoint.interval=1',
                ['default_hooks.chekpoint has no type', 'did you mean checkpoint?'],
            ),
            (
                'an unknown optimizer',
                'upernet',
                'optim_wrapper.optimizer.type=Adamw',
                ["optim_wrapper.optimizer.type='Adamw' is unknown", 'did you mean AdamW?'],
            ),
            (
                'a string instead of a number',
                'upernet',
                'train_dataloader.batch_size=two',
                ["train_dataloader.batch_size='two': give a number"],
            ),
            (
                'a training with 0 iterations',
                'upernet',
                'train_cfg.max_iters=0',
                ['train_cfg.max_iters=0: give a whole number, 1 or more'],
            ),
            (
                'an override with a list index out of range',
                'upernet',
                'param_scheduler.7.end=3',
                ['param_scheduler has no entry 7; give 0 to 1'],
            ),
            (
                'an override of a key inside a plain value',
                'upernet',
                'log_level.file=INFO',
                ["log_level is 'INFO' and has no settings"],
            ),
            (
                'a plain value instead of a dict of settings',
                'upernet',
                'model.backbone=swin',
                ["model.backbone='swin': give individual settings"],
            ),
            (
                'model.pretrained, as in earlier versions of mmseg and mmdet',
                'upernet',
                'model.pretrained=swin.pth',
                ["model.pretrained='swin.pth' is no longer supported", 'give --pretrained swin.pth'],
            ),
            (
                'randomness.seed that is not a number',
                'upernet',
                'randomness.seed=many',
                ["randomness.seed='many': give a whole number"],
            ),
            (
                'persistent workers without data workers',
                'upernet',
                'train_dataloader.persistent_workers=True',
                ['needs workers, but train_dataloader.num_workers=0'],
            ),
            (
                'UperNet with one image per process',
                'upernet',
                'train_dataloader.batch_size=1',
                ['model.decode_head pools each image to one pixel', 'train_dataloader.batch_size=2'],
            ),
            (
                'crops smaller than the minimum size of the backbone',
                'upernet',
                'model.data_preprocessor.size=(16,16)',
                ['model.data_preprocessor.size=(16, 16)', 'at least 32 pixels'],
            ),
            (
                'an epoch-based schedule in an iteration-based loop',
                'upernet',
                'param_scheduler.1.by_epoch=True',
                ['param_scheduler.1 (PolyLR) counts epochs', 'give param_scheduler.1.by_epoch=False'],
            ),
            (
                'a logging backend whose package is not installed',
                'upernet',
                "visualizer.vis_backends=[{'type':'AimVisBackend'}]",
                ['visualizer.vis_backends.0 (AimVisBackend) needs the package aim: pip install aim'],
            ),
            (
                'checkpoint file names without a number',
                'upernet',
                'default_hooks.checkpoint.filename_tmpl=last.pth',
                ["default_hooks.checkpoint.filename_tmpl='last.pth'", 'ends in the number'],
            ),
        ],
    )
    def test_refused(self, train, trials, tmp_path, refused, given, task, option, messages):
        trial = trials[task]
        refused(KIND, given, train(trial.config, *trial.arguments(), option), *messages)
        assert not list(tmp_path.iterdir())

    def test_unused_override(self, train, trials, tmp_path, errors_page):
        """An unused override changes nothing, so the training runs to its end."""
        trial = trials['upernet']
        outcome = train(
            trial.config,
            *trial.arguments(train_cfg__max_iters=1, train_cfg__val_interval=1),
            *(f'{option}=1' for option in UNREAD.values()),
        )
        assert outcome.status == 0, outcome.stderr[-3000:]
        assert len(list(tmp_path.rglob('result.json'))) == 1
        warnings = [line for line in outcome.stderr.splitlines() if line.startswith('warning: ')]
        for (given, option), warning in zip(UNREAD.items(), warnings, strict=True):
            assert warning.startswith(f'warning: {option} may have no effect: ')
            errors_page.enter(KIND, given, warning, outcome.status)
        assert 'did you mean train_cfg?' in warnings[0]
        assert 'override train_dataloader.dataset.pipeline instead' in warnings[1]
        assert 'use --launcher instead' in warnings[2]

    @pytest.mark.parametrize(
        'option',
        [
            'model.backbone.with_cp=True',
            'train_dataloader.dataset.indices=4',
            'optim_wrapper.clip_grad.max_norm=1',
            'default_hooks.checkpoint.max_keep_ckpts=2',
            'optim_wrapper.paramwise_cfg.bias_lr_mult=2',
            'env_cfg.dist_cfg.timeout=1800',
            'model.test_cfg.crop_size=(64,64)',
        ],
    )
    def test_new_setting_that_is_read(self, train, trials, option):
        trial = trials['upernet']
        outcome = train(trial.config, '--pretrained', 'nowhere.pth', *trial.arguments(), option)
        assert 'warning:' not in outcome.stderr
        assert 'nowhere.pth' in outcome.stderr.splitlines()[-1]

    @pytest.mark.parametrize(
        ('given', 'options', 'message'),
        [
            (
                'an unknown option of a command',
                ['--sed', '1'],
                'unrecognized arguments: --sed 1; --help lists the options',
            ),
            (
                'a `--seed` that is not a number',
                ['--seed', 'one'],
                "--seed: 'one' is not a whole number from 0",
            ),
            ('a negative `--seed`', ['--seed', '-1'], "--seed: '-1' is not a whole number from 0"),
            (
                'a `--seed` that does not fit in 32 bits',
                ['--seed', str(2**32)],
                "--seed: '4294967296' is not a whole number",
            ),
        ],
    )
    def test_command_line(self, train, trials, tmp_path, refused, given, options, message):
        refused(KIND, given, train(trials['upernet'].config, *options), message)
        assert not list(tmp_path.iterdir())


class TestBackbone:
    @pytest.mark.parametrize(
        ('given', 'option', 'messages'),
        [
            ('an unknown mixer', 'mixer.type=swim', ("unknown mixer 'swim'", 'choose from', 'swin')),
            (
                'a misspelled option of the mixer',
                'mixer.num_head=[1,2,4,8]',
                ("no option 'num_head'", "did you mean 'num_heads'?"),
            ),
            (
                'dims that are not divisible by num_heads',
                'mixer.num_heads=[1,3,4,8]',
                ('stage 1', '32 channels cannot be split into num_heads=3', 'dims'),
            ),
            (
                'too few entries in num_heads',
                'mixer.num_heads=[1,2]',
                ('num_heads=[1, 2] has 2 entries', '4 stages'),
            ),
            ('too few entries in depths', 'depths=[1,1]', ('has 4 entries', '2 stages')),
            ('a string instead of a list for dims', 'dims=wide', ("dims='wide': give a list",)),
            (
                'depths that are not whole numbers',
                'depths=[1,1,1.5,1]',
                ('depths=[1, 1, 1.5, 1]: give a whole number',),
            ),
            ('a depth of 0', 'depths=[1,1,0,1]', ('depths=[1, 1, 0, 1]: give a whole number',)),
            (
                'dims that do not match the neck',
                'dims=[32,64,128,256]',
                ('model.neck.in_channels=[16, 32, 64, 128]', '[32, 64, 128, 256]'),
            ),
        ],
    )
    def test_option(self, train, trials, tmp_path, refused, given, option, messages):
        trial = trials['mask_rcnn']
        outcome = train(trial.config, *trial.arguments(), f'model.backbone.{option}')
        refused(KIND, given, outcome, *messages)
        assert not list(tmp_path.iterdir())


class TestOutput:
    def test_work_dir_below_a_file(self, train, trial, tmp_path, refused):
        (tmp_path / 'file').write_text('')
        outcome = train(trial.config, '--work-dir', 'file/run', *trial.arguments())
        given = 'a work dir inside a file'
        refused(KIND, given, outcome, 'work dir file/run cannot be created', 'choose another')

    def test_work_dir_is_a_file(self, train, trial, tmp_path, refused):
        (tmp_path / 'file').write_text('kept')
        outcome = train(trial.config, '--work-dir', 'file', *trial.arguments())
        refused(KIND, 'a file instead of a work dir', outcome, 'work dir file is a file')
        assert (tmp_path / 'file').read_text() == 'kept'

    def test_work_dir_that_cannot_be_created(self, train, trials, refused):
        trial = trials['upernet']
        outcome = train(trial.config, '--work-dir', '/proc/run', *trial.arguments())
        # root passes every permission check, and fails only when it creates the folder.
        assert outcome.status == 2
        assert outcome.stderr.splitlines()[-1].startswith('error: work dir /proc/run ')
        assert 'Traceback' not in outcome.stderr

    @pytest.mark.skipif(os.geteuid() == 0, reason='root can write everywhere')
    @pytest.mark.parametrize('name', ['shut', 'shut/run'])
    def test_work_dir_that_is_not_writable(self, train, trials, tmp_path, name):
        (tmp_path / 'shut').mkdir(mode=0o500)
        trial = trials['upernet']
        outcome = train(trial.config, '--work-dir', name, *trial.arguments())
        assert outcome.status == 2
        assert f'work dir {name} is not writable' in outcome.stderr.splitlines()[-1]

    @pytest.mark.parametrize(
        ('given', 'name', 'message'),
        [
            ('`--out` with a name that does not end in .pkl', 'predictions.json', 'must end in .pkl'),
            ('`--out` in a folder that does not exist', 'nowhere/predictions.pkl', 'folder'),
        ],
    )
    def test_predictions(
        self, test, trials, work_dir_of, refused, nothing_written, given, name, message
    ):
        trial = trials['upernet']
        checkpoint = work_dir_of('upernet') / 'iter_4.pth'
        outcome = test(trial.config, checkpoint, '--out', name, *trial.arguments())
        refused(KIND, given, outcome, f'--out {name}', message)
        assert nothing_written()


class TestWhatWorks:
    def test_training_without_validation(self, train, trial, tmp_path):
        options = {f'val_{name}': None for name in ('dataloader', 'cfg', 'evaluator')}
        of_loader = {'val_dataloader.dataset.pipeline.1.scale', 'train_cfg.val_interval'}
        kept = {key: value for key, value in trial.options.items() if key not in of_loader}
        smaller = dataclasses.replace(trial, options=kept)
        outcome = train(trial.config, *smaller.arguments(**options))
        assert outcome.status == 0, outcome.stderr[-3000:]
        assert 'warning:' not in outcome.stderr
        assert len(list(tmp_path.rglob(f'{trial.end}.pth'))) == 1
        assert not list(tmp_path.rglob('result.json'))

    def test_averaged_weights(self, train, trials, tmp_path):
        """Hooks from the command line, as a list of dicts and in addition to those of the config."""
        trial = trials['upernet']
        arguments = trial.arguments(train_cfg__max_iters=1, train_cfg__val_interval=1)
        hooks = "custom_hooks=[{'type':'EMAHook','momentum':0.25}]"
        outcome = train(trial.config, *arguments, hooks, 'default_hooks.checkpoint.interval=1')
        assert outcome.status == 0, outcome.stderr[-3000:]
        assert 'warning:' not in outcome.stderr
        (checkpoint,) = tmp_path.rglob('iter_1.pth')
        assert 'ema_state_dict' in torch.load(checkpoint, weights_only=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason='this is valid on a GPU')
def test_wrapper_for_mixed_precision_without_a_gpu(train, trials, tmp_path, refused):
    trial = trials['upernet']
    outcome = train(trial.config, *trial.arguments(optim_wrapper__type='AmpOptimWrapper'))
    given = 'AmpOptimWrapper without a GPU'
    refused(KIND, given, outcome, 'optim_wrapper.type=AmpOptimWrapper needs a GPU')
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason='this is valid on a GPU')
def test_mixed_precision_without_a_gpu(train, trials, tmp_path, refused):
    trial = trials['upernet']
    outcome = train(trial.config, '--amp', *trial.arguments())
    refused(KIND, '`--amp` without a GPU', outcome, '--amp needs a GPU')
    assert not Path(tmp_path, 'work_dirs').exists()
