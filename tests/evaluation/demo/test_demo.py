"""Trainings of the demonstration, and which of them are repeated."""

import dataclasses
import os
import subprocess
import sys

import pytest

from backbones import MIXERS, PAPER_MIXERS
from evaluation.demo import demo as module
from evaluation.demo.demo import FULL, SHORT, Demo, chosen_mixers, run_demo
from evaluation.utils.errors import UserError
from tests.commands import ROOT

NAME = 'upernet_swin_micro'


@pytest.fixture(params=[SHORT, FULL], ids=['short', 'full'])
def demo(request, tmp_path, monkeypatch):
    """Demonstration in an empty folder, with the project's configs."""
    monkeypatch.setattr(module, 'CONFIGS', ROOT / 'configs/demo')
    return Demo(dataclasses.replace(request.param, folder=tmp_path / 'demo'))


def finish(demo, name, stamp):
    """Write the output of a finished training, and its stamp."""
    folder = demo.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'iter_120.pth').touch()
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_120.pth'))
    (folder / 'finished').write_text(stamp + '\n')


def command_of(job):
    return list(job.work.args)


class TestTrainings:
    def test_every_mixer_is_trained_on_both_tasks(self, demo):
        files = {file.stem for file in (ROOT / 'configs/demo').glob('*.py')}
        names = demo.names()
        assert demo.mixers == PAPER_MIXERS
        dense = {name for name in files if not name.startswith('imagenet')}
        assert len(names) == len(set(names)) == 25
        assert set(names) == files | {f'{name}_pretrained' for name in dense}

    @pytest.mark.parametrize('mixer', sorted({*MIXERS} - {*PAPER_MIXERS}))
    def test_a_mixer_without_leaves_replaces_the_backbone_of_another(self, demo, mixer):
        chosen = Demo(demo.length, [mixer])
        assert len(chosen.names()) == 5
        for name in chosen.names():
            command = command_of(chosen.job(name))
            task = name.partition(f'_{mixer}_')[0]
            leaf = f'{ROOT}/configs/demo/{task}_swin_micro.py'
            assert command[1:4] == [leaf, '--backbone', f'{mixer}_micro']
            cfg = chosen.config(name)
            assert cfg.model.backbone.mixer.type == mixer
            assert cfg.contestant.to_dict() == {'name': f'{mixer}_micro', 'scale': 'micro'}
            assert cfg.model.backbone.layer_scale_init_value == 1

    def test_mixers_by_name(self):
        assert chosen_mixers(None) == PAPER_MIXERS
        assert chosen_mixers(['all']) == tuple(MIXERS)
        assert chosen_mixers(['pool', 'swin', 'pool']) == ('pool', 'swin')
        with pytest.raises(UserError, match=r'--mixers swim: .*did you mean'):
            chosen_mixers(['swim'])
        with pytest.raises(UserError, match='choose from all, halo'):
            chosen_mixers(['resnet50'])

    def test_a_pretrained_training_starts_from_the_weights_of_its_mixer(self, demo):
        job = demo.job(f'{NAME}_pretrained')
        command = command_of(job)
        weights = demo.folder / 'imagenet_swin_micro' / 'epoch_4.pth'
        assert command[command.index('--pretrained') + 1] == str(weights)
        assert '--pretrained' not in command_of(demo.job(NAME))
        assert job.folder == demo.folder / f'{NAME}_pretrained'
        assert job.after == 'imagenet_swin_micro'
        assert demo.names().index(job.after) < demo.names().index(job.name)

    def test_steps_are_those_of_the_config(self, demo):
        times = 2 if demo.length.seconds == FULL.seconds else 1
        assert demo.job(NAME).steps == 80 * times
        # 160 scenes in batches of 2.
        assert demo.job('mask_rcnn_swin_micro').steps == 80 * times
        # 480 shapes in batches of 8, four times.
        assert demo.job('imagenet_swin_micro').steps == 240

    def test_the_short_demonstration_has_its_own_settings(self):
        short, full = (command_of(Demo(length).job(NAME)) for length in (SHORT, FULL))
        assert 'train_cfg.max_iters=80' in short
        assert '--cfg-options' not in full
        assert Demo(SHORT).digest(NAME) != Demo(FULL).digest(NAME)


class TestFinished:
    def test_finished_with_a_stamp(self, demo):
        finish(demo, NAME, demo.digest(NAME))
        assert demo.is_finished(NAME)

    def test_not_finished_without_a_stamp(self, demo):
        finish(demo, NAME, demo.digest(NAME))
        (demo.folder / NAME / 'finished').unlink()
        assert not demo.is_finished(NAME)

    def test_not_finished_with_a_different_config(self, demo):
        finish(demo, NAME, demo.digest('upernet_halo_micro'))
        assert not demo.is_finished(NAME)

    def test_not_finished_with_different_scenes(self, demo, monkeypatch):
        finish(demo, NAME, demo.digest(NAME))
        for setting, value in (('SEED', 1), ('SPLITS', {'train': 299, 'val': 60})):
            with monkeypatch.context() as patch:
                patch.setattr(module, setting, value)
                assert not demo.is_finished(NAME)

    def test_not_finished_with_weights_of_a_different_pretraining(self, demo, monkeypatch):
        name = f'{NAME}_pretrained'
        finish(demo, name, demo.digest(name))
        assert demo.is_finished(name)
        read = module.open_config

        def changed(file, *others):
            cfg, warnings = read(file, *others)
            if 'imagenet' in file:
                cfg.optim_wrapper.optimizer.lr = 0.1
            return cfg, warnings

        monkeypatch.setattr(module, 'open_config', changed)
        again = Demo(demo.length)
        assert not again.is_finished(name)
        assert again.digest(NAME) == demo.digest(NAME)

    @pytest.mark.parametrize('lost', ['iter_120.pth', 'last_checkpoint'])
    def test_not_finished_without_a_checkpoint(self, demo, lost):
        finish(demo, NAME, demo.digest(NAME))
        (demo.folder / NAME / lost).unlink()
        assert not demo.is_finished(NAME)

    def test_finished_after_the_folder_was_moved(self, demo):
        finish(demo, NAME, demo.digest(NAME))
        (demo.folder / NAME / 'last_checkpoint').write_text('/elsewhere/demo/iter_120.pth')
        assert demo.is_finished(NAME)


class TestRun:
    def test_finished_trainings_are_not_repeated(self, demo, monkeypatch, capsys):
        ran = []
        monkeypatch.setattr(module, 'scene_jobs', lambda demo: [])

        def run(todo, parallel, threads, on_done=lambda job: None):
            ran.append([job.name for job in todo])
            for job in todo:
                if job.steps:
                    finish(demo, job.name, '')
                on_done(job)
            (demo.folder / 'table.md').write_text('the tables')

        monkeypatch.setattr(module, 'run_jobs', run)
        names = demo.names()[:4]
        monkeypatch.setattr(demo, 'names', lambda: names)
        finish(demo, names[3], demo.digest(names[3]))
        run_demo(demo, parallel=2)
        run_demo(demo, parallel=2)
        outputs = ['report', 'tables', 'pictures']
        # Output is not written again if the trainings are the same.
        assert ran == [[], names[:3], outputs, [], []]
        printed = capsys.readouterr().out
        assert '3 to do, 1 finished before; 2 at a time' in printed
        assert printed.count('the tables') == 2

    def test_a_different_working_directory_is_refused(self, demo, monkeypatch, tmp_path):
        monkeypatch.setattr(module, 'CONFIGS', tmp_path / 'configs/demo')
        with pytest.raises(UserError, match='start this command in the folder of the project'):
            run_demo(demo, parallel=1)


PROGRAM = """
from pathlib import Path
from evaluation.demo import demo
from evaluation.demo.jobs import run_jobs
demo.SPLITS = {'train': 4, 'val': 3}
options = {
    'train_cfg.max_iters': 2,
    'train_cfg.val_interval': 2,
    'param_scheduler.0.end': 1,
    'param_scheduler.1.begin': 1,
    'param_scheduler.1.end': 2,
    'default_hooks.checkpoint.interval': 2,
}
length = demo.Length(Path('work_dirs/demo'), {'upernet': 1, 'imagenet': 1}, {'upernet': options})
short = demo.Demo(length)
run_jobs(demo.scene_jobs(short)[:1], parallel=2, threads=1)
name = 'upernet_swin_micro'
jobs = [short.job(name)]
run_jobs(jobs, parallel=1, threads=1, on_done=lambda job: short.mark_finished(job.name))
print('finished:', short.is_finished(name), jobs[0].share_done())
"""


def test_training_in_a_forked_process(tmp_path):
    """In a process of its own, since a process that has trained cannot fork one that trains."""
    for folder in ('configs', 'tools'):
        (tmp_path / folder).symlink_to(ROOT / folder)
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    log = tmp_path / 'work_dirs/demo/upernet_swin_micro/output.log'
    assert done.returncode == 0, done.stderr + (log.read_text()[-2000:] if log.is_file() else '')
    assert done.stdout.splitlines()[-1] == 'finished: True 1.0'
    assert 'mIoU' in log.read_text()
    assert len(list(log.parent.glob('*/iter_2/result.json'))) == 1
