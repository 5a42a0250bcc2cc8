"""Settings of a run in the config work like the options of the command line."""

import argparse
import copy
from fnmatch import fnmatch
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from evaluation.analysis.command import result_file
from evaluation.config.config_files import read_config
from evaluation.config.digests import config_sha256
from evaluation.config.overrides import merge_options
from evaluation.config.run_settings import (
    any_checkpoint,
    check_checkpoint_names,
    check_run_settings,
    check_same_experiment,
    checkpoint_of_step,
    checkpoint_to_resume,
    final_checkpoint,
    randomness,
    warn_of_different_backbone,
    work_dir,
)
from evaluation.engine import starting_point, train_and_test
from evaluation.engine.hooks.training import SafeCheckpointHook
from evaluation.engine.starting_point import set_starting_point
from evaluation.sweep.runs import Digests, Wanted, Wishes, flags_of, make_run, own_seed
from evaluation.utils.errors import UserError
from tests.commands import ROOT

pytestmark = pytest.mark.habits
LEAF = ROOT / 'configs/demo/upernet_dcn_micro.py'
SWIN = ROOT / 'configs/mask_rcnn_swin_tiny.py'


@pytest.fixture
def cfg(tmp_path):
    config = read_config(str(LEAF))
    config.update(checkpoint_key=None, work_dir=str(tmp_path))
    return config


class TestResume:
    @pytest.mark.parametrize(
        ('settings', 'option', 'found'),
        [
            ({}, None, None),
            (dict(resume=False, load_from='a.pth'), None, None),
            (dict(resume=None), None, None),
            (dict(resume=True), None, 'latest'),
            (dict(resume=True, load_from=None), None, 'latest'),
            (dict(resume=True, load_from='a.pth'), None, 'a.pth'),
            (dict(resume=1, load_from='a.pth'), None, 'a.pth'),
            (dict(resume=True, load_from='a.pth'), 'b.pth', 'b.pth'),
            (dict(resume=True, load_from='a.pth'), 'latest', 'latest'),
            (dict(resume=False), 'b.pth', 'b.pth'),
            ({}, 'auto', 'latest'),
        ],
    )
    def test_has_the_same_meaning_as_the_option(self, settings, option, found):
        assert checkpoint_to_resume(Config(settings), option) == found

    @pytest.mark.parametrize('value', ['True', 'False', 'a.pth', 'auto', 2, ['a.pth']])
    @pytest.mark.parametrize('option', [None, 'b.pth'])
    def test_neither_true_nor_false(self, value, option):
        with pytest.raises(UserError, match='is neither True nor False; give resume=True') as caught:
            checkpoint_to_resume(Config(dict(resume=value)), option)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize('pretrained', [None, 'unused.pth'])
    @pytest.mark.parametrize('load_from', [True, False], ids=['load_from', 'latest'])
    def test_same_checks_and_same_start(self, cfg, tmp_path, monkeypatch, capsys, load_from, pretrained):
        """Check the experiment, the training state, and the shapes of all weights."""
        content = dict(meta={}, message_hub={}, optimizer={}, param_schedulers=[], state_dict={})
        torch.save(content, tmp_path / 'iter_2.pth')
        checked = []
        for name in ('check_training_state', 'check_same_experiment', 'check_fits'):
            monkeypatch.setattr(
                starting_point, name, lambda *_, strict=None, name=name: checked.append(name)
            )
        cfg.resume = True
        cfg.load_from = str(tmp_path / 'iter_2.pth') if load_from else None
        set_starting_point(cfg, pretrained, checkpoint_to_resume(cfg, None))
        assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'iter_2.pth'))
        assert checked == ['check_training_state', 'check_same_experiment', 'check_fits']
        said = 'is not needed and is ignored' in capsys.readouterr().err
        assert said == (pretrained is not None)

    def test_latest_without_a_checkpoint_is_a_fresh_start(self, cfg, tmp_path):
        """Neither mmengine nor a missing `--pretrained` file decides this."""
        cfg.resume = True
        set_starting_point(cfg, None, checkpoint_to_resume(cfg, None))
        assert cfg.resume is False
        cfg.resume = True
        with pytest.raises(UserError, match=r'nowhere\.pth'):
            set_starting_point(cfg, str(tmp_path / 'nowhere.pth'), checkpoint_to_resume(cfg, None))

    def test_without_the_base_page(self, cfg):
        cfg.pop('resume'), cfg.pop('load_from')
        set_starting_point(cfg, None, checkpoint_to_resume(cfg, None))
        assert not cfg.resume

    def test_resume_is_not_in_the_digest(self):
        plain, resumed = read_config(str(LEAF)), read_config(str(LEAF))
        merge_options(resumed, {'resume': True, 'load_from': 'a.pth'})
        assert config_sha256(resumed) == config_sha256(plain)
        merge_options(plain, {'load_from': 'a.pth'})
        assert config_sha256(resumed) != config_sha256(plain)


class TestRandomness:
    @pytest.mark.parametrize(
        ('own', 'seed', 'deterministic', 'found'),
        [
            (None, None, False, dict(seed=0, deterministic=False)),
            (dict(seed=42), None, False, dict(seed=42, deterministic=False)),
            (dict(seed=42), 7, False, dict(seed=7, deterministic=False)),
            (dict(seed=42), 0, False, dict(seed=0, deterministic=False)),
            (dict(seed=None), None, False, dict(seed=0, deterministic=False)),
            (dict(seed=42, deterministic=True), 7, False, dict(seed=7, deterministic=True)),
            (dict(deterministic=False), None, True, dict(seed=0, deterministic=True)),
            (
                dict(seed=1, diff_rank_seed=True),
                None,
                False,
                dict(seed=1, deterministic=False, diff_rank_seed=True),
            ),
        ],
    )
    def test_command_line_wins_if_given(self, own, seed, deterministic, found):
        cfg = Config({} if own is None else dict(randomness=own))
        assert randomness(cfg, seed, deterministic) == found

    @pytest.mark.parametrize(
        ('own', 'message'),
        [
            (42, r'randomness=42: give settings, such as dict\(seed=42\)'),
            (dict(seed='42'), "randomness.seed='42': give a whole number"),
            (dict(seed=-1), 'randomness.seed=-1: give a whole number'),
            (dict(seed=True), 'randomness.seed=True: give a whole number'),
            (dict(seed=2**40), 'give a whole number from 0 to'),
            (dict(deterministic='yes'), "randomness.deterministic='yes': give True or False"),
        ],
    )
    def test_refused(self, own, message):
        with pytest.raises(UserError, match=message):
            check_run_settings(Config(dict(randomness=own)))

    def test_three_seeds_are_three_runs(self, cfg, monkeypatch):
        """Three configs with different seeds use these seeds."""

        def stop(config):
            raise StopIteration

        monkeypatch.setattr(train_and_test, 'load_config', lambda arguments, loaders, protocol: cfg)
        monkeypatch.setattr(train_and_test, 'make_runner', stop)
        given = dict(config='c.py', amp=False, auto_scale_lr=False, resume=None, pretrained=None)
        given.update(deterministic=False, config_sha256=None)
        given.update(protocol=None, fraction=None, fraction_seed=None)
        seeds = []
        for own, option in ((1, None), (2, None), (3, None), (3, 4)):
            cfg.randomness = dict(seed=own)
            with pytest.raises(StopIteration):
                train_and_test.train(argparse.Namespace(**given, seed=option))
            seeds.append(cfg.randomness['seed'])
        assert seeds == [1, 2, 3, 4]


class TestWorkDir:
    @pytest.mark.parametrize(
        ('own', 'option', 'found'),
        [
            (None, None, 'work_dirs/leaf'),
            ('runs/a', None, 'runs/a'),
            ('runs/a', 'b', 'b'),
            (None, 'b', 'b'),
            ('~/runs', None, '/home/me/runs'),
            ('runs/a', '~/b', '/home/me/b'),
        ],
    )
    def test_command_line_wins_if_given(self, monkeypatch, own, option, found):
        monkeypatch.setenv('HOME', '/home/me')
        assert work_dir(Config({} if own is None else dict(work_dir=own)), option, 'x/leaf.py') == found

    def test_not_a_path(self):
        with pytest.raises(UserError, match='work_dir=3: give a path'):
            work_dir(Config(dict(work_dir=3)), None, 'leaf.py')

    @pytest.mark.parametrize(('option', 'found'), [(None, 'own'), ('given', 'given')])
    def test_analyses(self, tmp_path, option, found):
        arguments = argparse.Namespace(
            config=str(LEAF),
            checkpoint=None,
            backbone=None,
            cfg_options={'work_dir': str(tmp_path / 'own')},
            output=None,
            work_dir=option and tmp_path / option,
        )
        assert result_file(arguments, 'erf.json') == tmp_path / found / 'analysis/erf.json'


class TestSweep:
    def test_seed(self):
        assert own_seed(LEAF, {}) == 0
        assert own_seed(LEAF, {'randomness.seed': 42}) == 42
        assert own_seed(LEAF, {'randomness.seed': 'a'}) == own_seed(ROOT / 'nowhere.py', {}) == 0

    def test_deterministic(self):
        cfg = Config(dict(randomness=dict(deterministic=True)))
        assert flags_of(cfg, ('--amp',)) == ('--deterministic', '--amp')
        assert flags_of(cfg, ('--deterministic', '--amp')) == ('--deterministic', '--amp')
        assert flags_of(Config({}), ('--amp',)) == ('--amp',)

    def test_resume_is_refused(self, tmp_path):
        wishes = Wishes(tmp_path, options={'resume': True, 'load_from': 'a.pth'})
        with pytest.raises(
            UserError, match='every run of a sweep starts from the beginning; remove resume'
        ):
            make_run(Wanted(LEAF, 'seed_0', 0), wishes, Digests())


def named_checkpoints(template, **length):
    checkpoint = {} if template is None else {'filename_tmpl': template}
    return Config(
        {'default_hooks': {'checkpoint': checkpoint}, 'train_cfg': length or {'max_epochs': 7}}
    )


@pytest.mark.parametrize(
    ('template', 'name'),
    [
        (None, 'epoch_7.pth'),
        ('epoch_{}.pth', 'epoch_7.pth'),
        ('swin_{:04d}.pth', 'swin_0007.pth'),
        ('step-{0}.pth', 'step-7.pth'),
    ],
)
def test_names_with_their_number(template, name, tmp_path):
    cfg = named_checkpoints(template)
    check_checkpoint_names(cfg)
    assert final_checkpoint(cfg) == name
    hook = SafeCheckpointHook(filename_tmpl=template)
    assert checkpoint_of_step(SimpleNamespace(hooks=[hook], epoch=7), by_epoch=True) == name
    assert fnmatch(name, any_checkpoint(hook.filename_tmpl))
    # The hook also finds the unfinished file of a killed training by this name.
    hook.out_dir = str(tmp_path)
    (tmp_path / f'{name}.tmp').write_text('')
    hook._remove_unfinished()
    assert not list(tmp_path.iterdir())


def test_iterations():
    assert final_checkpoint(named_checkpoints(None, max_iters=9)) == 'iter_9.pth'
    assert checkpoint_of_step(SimpleNamespace(hooks=[], iter=9), by_epoch=False) == 'iter_9.pth'


@pytest.mark.parametrize(
    'template',
    ['last.pth', '{epoch}.pth', '{}_{}.pth', 'epoch_{', '{}', 'epoch_{:s}.pth', 'a/{}.pth', 7],
)
def test_names_that_cannot_be_resumed_from(template):
    with pytest.raises(UserError) as caught:
        check_checkpoint_names(named_checkpoints(template))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(
        f'default_hooks.checkpoint.filename_tmpl={template!r}: give a name that ends in'
    )


@pytest.fixture(scope='module')
def swin():
    return read_config(str(SWIN))


def checkpoint_of(config, **training):
    """Return the part of a checkpoint where mmengine stores the config."""
    return {'meta': {'cfg': config.pretty_text, 'training': training}}


@pytest.fixture(scope='module')
def checkpoint(swin):
    return checkpoint_of(swin, batch_size=2)


def changed(config, **changes):
    """Return a copy with some settings changed; `__` stands for a dot."""
    config = copy.deepcopy(config)
    config.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    return config


class TestSameExperiment:
    def test_same_config(self, swin, checkpoint, capsys):
        check_same_experiment(swin, checkpoint, 'epoch_1.pth')
        assert capsys.readouterr().err == ''

    @pytest.mark.parametrize(
        'changes',
        [
            {'train_dataloader__dataset__data_root': 'elsewhere'},
            {'val_dataloader__dataset__data_root': 'elsewhere', 'data_root': 'elsewhere'},
            {'train_dataloader__dataset__ann_file': 'elsewhere.json'},
            {'train_dataloader__num_workers': 0, 'train_dataloader__persistent_workers': False},
            {'default_hooks__logger__interval': 1, 'default_hooks__checkpoint__interval': 7},
            {'launcher': 'pytorch', 'resume': True, 'load_from': 'x.pth', 'work_dir': 'w'},
            {'model__backbone__init_cfg': {'type': 'Pretrained', 'checkpoint': 'x.pth'}},
            {'model__backbone__with_cp': True},
            {'optim_wrapper__type': 'AmpOptimWrapper', 'optim_wrapper__loss_scale': 'dynamic'},
            {'train_cfg__val_interval': 3, 'val_dataloader__batch_size': 4},
            {'model__test_cfg__rcnn__score_thr': 0.1},
            {'env_cfg__dist_cfg__backend': 'gloo', 'randomness': {'seed': 3}},
        ],
    )
    def test_irrelevant_differences(self, swin, checkpoint, capsys, changes):
        check_same_experiment(changed(swin, **changes), checkpoint, 'epoch_1.pth')
        assert capsys.readouterr().err == ''

    @pytest.mark.parametrize(
        ('changes', 'said'),
        [
            ({'train_cfg__max_epochs': 24}, 'train_cfg.max_epochs is 24 here and 12 there'),
            (
                {'train_dataloader__batch_size': 4},
                'train_dataloader.batch_size is 4 here and 2 there',
            ),
            (
                {'train_dataloader__dataset__pipeline__3__prob': 0.0},
                'train_dataloader.dataset.pipeline.3.prob is 0.0 here and 0.5 there',
            ),
            (
                {'optim_wrapper__clip_grad': {'max_norm': 1}},
                "optim_wrapper.clip_grad is {'max_norm': 1} here and nothing there",
            ),
        ],
    )
    def test_possibly_intended_differences(self, swin, checkpoint, capsys, changes, said):
        check_same_experiment(changed(swin, **changes), checkpoint, 'epoch_1.pth')
        assert capsys.readouterr().err == f'warning: resuming from epoch_1.pth: {said}\n'

    def test_different_number_of_processes(self, swin, checkpoint, capsys, monkeypatch):
        monkeypatch.setenv('WORLD_SIZE', '4')
        check_same_experiment(swin, checkpoint, 'epoch_1.pth')
        assert 'a step has 8 images here and 2 there' in capsys.readouterr().err

    def test_accumulated_batches_count_as_one_step(self, swin, checkpoint, capsys):
        check_same_experiment(
            changed(swin, optim_wrapper__accumulative_counts=3), checkpoint, 'epoch_1.pth'
        )
        assert 'a step has 6 images here and 2 there' in capsys.readouterr().err

    @pytest.mark.parametrize('meta', [{}, {'cfg': None}, {'cfg': '(:'}, {'cfg': 'pass'}])
    def test_file_without_a_config(self, swin, capsys, meta):
        check_same_experiment(swin, {'meta': meta}, 'epoch_1.pth')
        assert 'epoch_1.pth does not store its config' in capsys.readouterr().err


class TestDifferentExperiment:
    @pytest.mark.parametrize(
        ('name', 'said'),
        [
            (
                'mask_rcnn_dcn_tiny',
                "model.backbone.mixer.type is 'dcn' here and 'swin' there",
            ),
            ('upernet_swin_tiny', "model.type is 'EncoderDecoder' here and 'MaskRCNN' there"),
            ('mask_rcnn_swin_small', 'model.backbone.depths.2 is 18 here and 6 there'),
            ('mask_rcnn_r50', "model.backbone.type is 'ResNet' here and 'UnifiedBackbone' there"),
        ],
    )
    def test_config(self, checkpoint, name, said):
        cfg = read_config(str(ROOT / f'configs/{name}.py'))
        with pytest.raises(UserError) as refusal:
            check_same_experiment(cfg, checkpoint, 'epoch_1.pth')
        (line,) = str(refusal.value).splitlines()
        assert line.startswith(f'epoch_1.pth belongs to a different experiment: {said}')
        assert line.endswith('give the config that it was trained with, or a different --work-dir')

    @pytest.mark.parametrize(
        ('changes', 'said'),
        [
            ({'optim_wrapper__optimizer__lr': 0.1}, 'optimizer.lr is 0.1 here and 0.0001 there'),
            (
                {'param_scheduler__1__milestones': [27, 33]},
                'param_scheduler.1.milestones.0 is 27 here and 8 there, '
                'param_scheduler.1.milestones.1 is 33 here and 11 there',
            ),
            ({'model__backbone__drop_path_rate': 0.3}, 'drop_path_rate is 0.3 here and 0.2 there'),
        ],
    )
    def test_schedule(self, swin, checkpoint, changes, said):
        with pytest.raises(UserError) as refusal:
            check_same_experiment(changed(swin, **changes), checkpoint, 'epoch_1.pth')
        assert said in str(refusal.value)

    def test_many_differences_are_counted(self, swin, checkpoint):
        changes = {'optim_wrapper__optimizer__lr': 0.1, 'model__neck__num_outs': 6}
        cfg = changed(swin, **changes, param_scheduler__0__end=1, param_scheduler__0__begin=9)
        with pytest.raises(UserError, match=r' there, and 2 more; give '):
            check_same_experiment(cfg, checkpoint, 'epoch_1.pth')


class TestDifferentBackbone:
    """Weights that fit a different class are tested with a warning."""

    @pytest.mark.parametrize(
        ('theirs', 'warning'),
        [
            ({'type': 'my_net.Net'}, ''),
            ({'type': 'Net'}, ''),
            (
                {'type': 'other.Net'},
                'was trained with model.backbone.type other.Net, and',
            ),
        ],
    )
    def test_class(self, cfg, capsys, theirs, warning):
        cfg.model.backbone = dict(type='my_net.Net')
        stored = {'meta': {'cfg': Config({'model': {'backbone': theirs}}).pretty_text}}
        warn_of_different_backbone(cfg, stored, 'a.pth')
        printed = capsys.readouterr().err
        assert warning in printed
        assert bool(printed) == bool(warning)

    @pytest.mark.parametrize('digest', ['a', 'b'])
    def test_source_code(self, cfg, capsys, digest):
        backbone = dict(type='my_net.Net')
        cfg.model.backbone, cfg.backbone_source_sha256 = backbone, 'a'
        content = {'model': {'backbone': backbone}, 'backbone_source_sha256': digest}
        stored = {'meta': {'cfg': Config(content).pretty_text}}
        warn_of_different_backbone(cfg, stored, 'a.pth')
        changed = 'the source code of my_net.Net has changed since the training of a.pth'
        assert (changed in capsys.readouterr().err) == (digest == 'b')

    @pytest.mark.parametrize('meta', [{}, {'meta': None}, {'meta': {'cfg': 'not ( Python'}}])
    def test_checkpoint_without_its_config(self, cfg, capsys, meta):
        warn_of_different_backbone(cfg, meta, 'a.pth')
        assert not capsys.readouterr().err
