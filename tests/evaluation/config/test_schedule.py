"""Schedules with mixed units, compared with the learning rates that mmengine computes."""

import copy
import importlib
from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from evaluation.config.config_files import read_config
from evaluation.config.overrides import merge_options
from evaluation.config.schedule import check_schedule
from evaluation.config.schedule_length import length_warnings
from evaluation.data.image_loading import SEEDED_SAMPLERS
from evaluation.utils.errors import UserError
from tests.commands import ROOT

pytestmark = pytest.mark.habits

EPOCHS = dict(type='EpochBasedTrainLoop', max_epochs=3)
ITERATIONS = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=6)
DECAY = dict(type='MultiStepLR', milestones=[1, 2], gamma=0.1)
RATE = 7e-4


class Line(BaseModel):
    """A model with one weight."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, x, mode='loss'):
        return {'loss': self.line(x).sum()}


class Rates(Hook):
    """Record the learning rate of every step."""

    def __init__(self):
        self.found = []

    def before_train_iter(self, runner, **_):
        self.found += runner.optim_wrapper.get_lr()['lr']


def made(loop, schedulers, **parts):
    """Return the config of a training with two iterations per epoch."""
    by_epoch = loop['type'] == 'EpochBasedTrainLoop'
    return Config(
        {
            'default_scope': 'mmengine',
            'train_cfg': dict(loop),
            'train_dataloader': dict(
                batch_size=1,
                num_workers=0,
                sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=False),
            ),
            'param_scheduler': copy.deepcopy(schedulers),
            'default_hooks': dict(
                checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=by_epoch),
                logger=dict(type='LoggerHook', log_metric_by_epoch=by_epoch),
            ),
            'log_processor': dict(by_epoch=by_epoch),
            **parts,
        }
    )


def rates(cfg, tmp_path):
    """Return the learning rates that mmengine trains with."""
    noted = Rates()
    loader = dict(
        cfg.train_dataloader, dataset=[{'x': torch.ones(1)}] * 2, collate_fn=dict(type='default_collate')
    )
    Runner(
        Line(),
        work_dir=str(tmp_path),
        train_dataloader=loader,
        train_cfg=dict(cfg.train_cfg),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=RATE)),
        param_scheduler=cfg.param_scheduler,
        custom_hooks=[noted],
        default_hooks=dict(checkpoint=None, **cfg.get('hooks_of_test', {})),
        experiment_name=f'{tmp_path.name}_{len(list(tmp_path.iterdir()))}',
    ).train()
    return pytest.approx(noted.found)


def refusal(cfg, processes=1):
    with pytest.raises(UserError) as caught:
        check_schedule(cfg, processes)
    (line,) = str(caught.value).splitlines()
    return line


class TestUnitOfSchedulers:
    @pytest.mark.parametrize('by_epoch', [{'by_epoch': True}, {}], ids=['said', 'by default'])
    def test_epochs_under_iterations(self, tmp_path, by_epoch):
        """mmengine keeps the first rate; with the settings from the message it changes."""
        cfg = made(ITERATIONS, [{**DECAY, **by_epoch}])
        assert rates(cfg, tmp_path) == [RATE] * 6
        assert refusal(cfg) == (
            'param_scheduler.0 (MultiStepLR) counts epochs, but train_cfg.max_iters=6 counts '
            'iterations: it would never step; give param_scheduler.0.by_epoch=False, with begin, end '
            'and milestones in iterations'
        )
        cfg.param_scheduler[0].update(by_epoch=False, milestones=[2, 4])
        check_schedule(cfg, 1)
        assert rates(cfg, tmp_path) == [7e-4, 7e-4, 7e-5, 7e-5, 7e-6, 7e-6]

    def test_epochs_under_epochs(self, tmp_path):
        cfg = made(EPOCHS, [DECAY])
        check_schedule(cfg, 1)
        assert rates(cfg, tmp_path) == [7e-4, 7e-4, 7e-5, 7e-5, 7e-6, 7e-6]

    def test_iterations_under_epochs(self, tmp_path):
        """A schedule in epochs that is read as iterations ends after the first epoch."""
        cfg = made(EPOCHS, [{**DECAY, 'by_epoch': False}])
        assert rates(cfg, tmp_path) == [7e-4, 7e-5, 7e-6, 7e-6, 7e-6, 7e-6]
        assert 'give param_scheduler.0.by_epoch=True, or begin, end and milestones in' in refusal(cfg)

    @pytest.mark.parametrize(
        ('scheduler', 'key'),
        [
            (dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=3), 'end of 3'),
            (dict(type='PolyLR', by_epoch=False, end=3), 'end of 3'),
            (dict(type='StepLR', by_epoch=False, step_size=2), 'step_size of 2'),
        ],
    )
    def test_other_schedules_of_iterations_under_epochs(self, scheduler, key):
        line = refusal(made(EPOCHS, [scheduler]))
        assert (
            f'counts iterations, but its {key} looks like a number of epochs (train_cfg.max_epochs=3)'
            in line
        )

    def test_warm_up_by_iterations_under_epochs(self):
        warm_up = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3)
        check_schedule(made(EPOCHS, [warm_up, DECAY]), 1)

    def test_conversion(self, tmp_path):
        cfg = made(ITERATIONS, [{**DECAY, 'end': 3, 'convert_to_iter_based': True}])
        check_schedule(cfg, 1)
        assert rates(cfg, tmp_path) == [7e-4, 7e-4, 7e-5, 7e-5, 7e-6, 7e-6]
        assert 'is converted from epochs' in refusal(cfg, processes=2)

    def test_conversion_without_an_end(self, tmp_path):
        """mmengine ends it after one epoch, as an iteration loop has one."""
        cfg = made(ITERATIONS, [{**DECAY, 'convert_to_iter_based': True}])
        assert rates(cfg, tmp_path) == [RATE] * 6
        assert 'is converted from epochs' in refusal(cfg)

    def test_conversion_of_iterations(self):
        cfg = made(ITERATIONS, [{**DECAY, 'by_epoch': False, 'convert_to_iter_based': True}])
        assert 'give param_scheduler.0.convert_to_iter_based=False' in refusal(cfg)

    @pytest.mark.parametrize(
        ('schedulers', 'place'),
        [
            (DECAY, 'param_scheduler'),
            ({'first': [DECAY], 'second': [DECAY]}, 'param_scheduler.first.0'),
            ([dict(type='StepLR', step_size=2)], 'param_scheduler.0'),
            ([dict(type='CosineAnnealingMomentum')], 'param_scheduler.0'),
        ],
    )
    def test_every_form(self, schedulers, place):
        assert refusal(made(ITERATIONS, schedulers)).startswith(f'{place} (')

    def test_plateau_scheduler_works_in_either_loop(self):
        plateau = dict(type='ReduceOnPlateauLR', monitor='loss')
        check_schedule(made(ITERATIONS, [plateau]), 1)
        assert 'give' not in refusal(made(ITERATIONS, [{**plateau, 'by_epoch': False}])).split(':')[0]

    def test_loop_of_a_config_without_its_type(self):
        cfg = made(ITERATIONS, [DECAY])
        cfg.train_cfg = dict(by_epoch=False, max_iters=6)
        assert 'would never step' in refusal(cfg)

    def test_no_scheduler_hook(self, tmp_path):
        cfg = made(EPOCHS, [DECAY], hooks_of_test=dict(param_scheduler=None))
        assert rates(cfg, tmp_path) == [RATE] * 6
        cfg.default_hooks.param_scheduler = None
        assert "give default_hooks.param_scheduler.type='ParamSchedulerHook'" in refusal(cfg)


class TestOtherParts:
    @pytest.mark.parametrize('sampler', ['InfiniteSampler', SEEDED_SAMPLERS[1]])
    def test_endless_epoch(self, sampler):
        cfg = made(EPOCHS, [])
        cfg.train_dataloader.sampler.type = sampler
        assert "give train_dataloader.sampler.type='SeededSampler'" in refusal(cfg)

    @pytest.mark.parametrize('loop', [EPOCHS, ITERATIONS], ids=['epochs', 'iterations'])
    def test_checkpoints(self, loop):
        cfg = made(loop, [])
        meant = cfg.default_hooks.checkpoint.by_epoch
        cfg.default_hooks.checkpoint.by_epoch = not meant
        assert f'give default_hooks.checkpoint.by_epoch={meant}, with' in refusal(cfg)

    def test_checkpoints_by_default(self):
        cfg = made(ITERATIONS, [])
        del cfg.default_hooks.checkpoint
        assert 'give default_hooks.checkpoint.by_epoch=False' in refusal(cfg)
        cfg.default_hooks.checkpoint = None
        check_schedule(cfg, 1)

    def test_no_checkpoint_at_all(self):
        cfg = made(ITERATIONS, [])
        cfg.default_hooks.checkpoint.update(interval=7, save_last=False)
        assert 'give default_hooks.checkpoint.interval=6 or less' in refusal(cfg)

    def test_log(self):
        assert refusal(made(ITERATIONS, [], log_processor=None)).endswith(
            'give log_processor.by_epoch=False'
        )

    @pytest.mark.parametrize(
        ('hook', 'loop', 'said'),
        [
            (dict(type='EMAHook', begin_epoch=2), ITERATIONS, 'begin_epoch=2 counts epochs'),
            (dict(type='EMAHook', begin_iter=7), ITERATIONS, 'give custom_hooks.0.begin_iter=6 or less'),
            (dict(type='EMAHook', begin_epoch=4), EPOCHS, 'give custom_hooks.0.begin_epoch=3 or less'),
            (dict(type='EarlyStoppingHook', monitor='x'), EPOCHS, 'remove custom_hooks.0'),
            (dict(type='CheckpointHook', save_best='x'), EPOCHS, 'custom_hooks.0.save_best=None'),
        ],
    )
    def test_hooks(self, hook, loop, said):
        assert said in refusal(made(loop, [], custom_hooks=[hook]))

    @pytest.mark.parametrize(
        ('hook', 'loop'),
        [
            (dict(type='EMAHook', begin_iter=6), ITERATIONS),
            (dict(type='EMAHook', begin_epoch=3), EPOCHS),
            (dict(type='EMAHook', begin_iter=600), EPOCHS),
        ],
    )
    def test_hooks_that_start_in_time(self, hook, loop):
        check_schedule(made(loop, [], custom_hooks=[hook]), 1)


class TestLengths:
    @pytest.mark.parametrize(
        ('loop', 'schedulers', 'said'),
        [
            (EPOCHS, [dict(type='MultiStepLR', milestones=[1, 8])], 'milestones: [8] are never reached'),
            (EPOCHS, [dict(type='PolyLR', begin=5, end=9)], 'begins at 5'),
            (EPOCHS, [dict(type='LinearLR', end=500)], 'ends at 500'),
            (EPOCHS, [dict(type='CosineAnnealingLR', end=12)], 'give param_scheduler.0.end=3'),
            (EPOCHS, [dict(type='CosineAnnealingLR', end=2)], 'leaves epochs 2 to 3'),
            (EPOCHS, [dict(type='CosineAnnealingLR', T_max=9)], 'T_max=9 is not the 3 epochs'),
            (
                ITERATIONS,
                [
                    dict(type='LinearLR', by_epoch=False, end=2),
                    dict(type='PolyLR', by_epoch=False, begin=4, end=6),
                ],
                'give param_scheduler.1.begin=2',
            ),
        ],
    )
    def test_warnings(self, loop, schedulers, said):
        cfg = made(loop, schedulers)
        check_schedule(cfg, 1)
        (line,) = length_warnings(cfg)
        assert said in line

    @pytest.mark.parametrize(
        ('loop', 'part', 'said'),
        [
            (
                ITERATIONS,
                {'train_dataloader.sampler.type': 'DefaultSampler'},
                'restarts all workers',
            ),
            (ITERATIONS, {'default_hooks.logger.log_metric_by_epoch': True}, 'are logged at step 0'),
            (EPOCHS, {'train_cfg.val_begin': 4, 'val_cfg': {}}, 'nothing will be evaluated'),
        ],
    )
    def test_other_parts(self, loop, part, said):
        cfg = made(loop, [])
        cfg.merge_from_dict(part)
        (line,) = length_warnings(cfg)
        assert said in line

    def test_shortened_trial(self):
        """As in the trials of docs/training.md: no error, and no warning if an override shortens it."""
        cfg = read_config(str(ROOT / 'configs/upernet_swin_micro.py'))
        trial = {'train_cfg.max_iters': 20, 'train_cfg.val_interval': 20}
        merge_options(cfg, trial)
        check_schedule(cfg, 1)
        assert 'begins at 1500' in '\n'.join(length_warnings(cfg))
        assert length_warnings(cfg, trial) == []

    def test_lengthened_by_an_override(self):
        cfg = made(EPOCHS, [dict(type='CosineAnnealingLR', end=3)])
        longer = {'train_cfg.max_epochs': 9}
        merge_options(cfg, longer)
        assert 'leaves epochs 3 to 9' in length_warnings(cfg, longer)[0]


class TestNoFalseAlarm:
    @pytest.mark.parametrize(
        'leaf', sorted((ROOT / 'configs').glob('*_swin_*.py')), ids=lambda f: f.stem
    )
    def test_configs_of_the_suite(self, leaf):
        cfg = read_config(str(leaf))
        check_schedule(cfg, 8)
        assert length_warnings(cfg) == []

    @pytest.mark.parametrize('library', [mmdet, mmseg], ids=['mmdet', 'mmseg'])
    def test_configs_of_the_libraries(self, library):
        importlib.import_module(f'{library.__name__}.engine')
        importlib.import_module(f'{library.__name__}.datasets')
        folder = Path(library.__file__).parent / '.mim/configs'
        checked = 0
        for file in sorted(f for f in folder.glob('*/*.py') if '_base_' not in f.parts)[::61]:
            try:
                cfg = Config.fromfile(file)
            except ImportError:  # a package that the suite does not need
                continue
            if {'default_scope', 'train_cfg', 'train_dataloader'} <= {*cfg} and cfg.train_cfg:
                check_schedule(cfg, 8)
                checked += 1
        assert checked > 8
