"""`tools/dist_*.sh` with two processes on this machine, and `tools/slurm_*.sh` with a fake `srun`."""

import os
import pickle
import stat
import sys

import pytest
import torch
from mmengine.config import Config

from tests.commands import read_results
from tests.launching import TOOLS, free_port, places, shell


def predictions(file, task):
    """Return the tensors in a pickled file of predictions, by image."""
    by_image = {}
    for item in pickle.loads(file.read_bytes()):
        assert item['img_path'] not in by_image
        if task == 'upernet':
            by_image[item['img_path']] = [item['pred_sem_seg']['data']]
        else:
            found = item['pred_instances']
            by_image[item['img_path']] = [found['scores'], found['bboxes'], found['labels']]
    return by_image


@pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
class TestDistributed:
    def test_two_processes_give_the_metrics_of_one(self, commands, trial, trained, tmp_path):
        checkpoint = trained / f'{trial.end}.pth'
        one, two = tmp_path / 'one', tmp_path / 'two'
        commands.succeed(
            'test', trial.config, checkpoint, '--work-dir', one,
            '--out', tmp_path / 'one.pkl', *trial.arguments(),
        )  # fmt: skip
        done = shell(
            'dist_test.sh', trial.config, checkpoint, 2, '--work-dir', two,
            '--out', tmp_path / 'two.pkl', *trial.arguments(),
            PORT=free_port(), **commands.forked,
        )  # fmt: skip
        assert done.status == 0, done.stderr[-4000:]
        (alone,), (shared,) = read_results(one), read_results(two)
        assert shared['hardware']['world_size'] == 2
        assert shared['images'] == alone['images'] == 7
        assert shared['metrics'] == pytest.approx(alone['metrics'], abs=1e-6)
        assert shared['checkpoint'] == alone['checkpoint']
        alone, shared = (predictions(tmp_path / f'{n}.pkl', trial.task) for n in ('one', 'two'))
        assert len(alone) == 7
        assert alone.keys() == shared.keys()
        for image, tensors in alone.items():
            for tensor, other in zip(tensors, shared[image], strict=True):
                torch.testing.assert_close(other, tensor, rtol=0, atol=1e-5)

    def test_two_processes_train_together(self, commands, trial, tmp_path):
        length = {'mask_rcnn': {'train_cfg__max_epochs': 1}, 'upernet': {'train_cfg__max_iters': 2}}
        arguments = trial.arguments(**length[trial.task], find_unused_parameters=True)
        done = shell(
            'dist_train.sh', trial.config, 2, '--work-dir', tmp_path, *arguments,
            PORT=free_port(), **commands.forked,
        )  # fmt: skip
        assert done.status == 0, done.stderr[-4000:]
        (result,) = read_results(tmp_path)
        assert result['hardware']['world_size'] == 2
        assert result['batch_size'] == 8
        assert result['images'] == 7
        wrapper = Config.fromfile(tmp_path / trial.config.name).model_wrapper_cfg
        assert wrapper.find_unused_parameters is True
        # Eight scenes make one step: two processes with four images each.
        steps = {'mask_rcnn': 1, 'upernet': 2}[trial.task]
        assert result['iteration'] == steps
        assert (tmp_path / f'{trial.halfway}.pth').is_file()


@pytest.fixture
def srun(tmp_path):
    """Environment with an `srun` that prints its arguments, one per line, and the Python path."""
    file = tmp_path / 'bin' / 'srun'
    file.parent.mkdir()
    file.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\necho "path $PYTHONPATH"\n')
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return {'PATH': f'{file.parent}:{os.environ["PATH"]}'}


class TestSlurm:
    def test_train(self, srun):
        done = shell(
            'slurm_train.sh', 'gpu', 'my job', 'configs/upernet_swin_tiny.py', 'runs/here',
            '--seed', '3', GPUS='16', CPUS_PER_TASK='4', SRUN_ARGS='--time=2-0 --mem=0', **srun,
        )  # fmt: skip
        assert done.status == 0, done.stderr
        *words, path = done.stdout.splitlines()
        tools = str(TOOLS)
        assert words == [
            '-p', 'gpu', '--job-name=my job', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8',
            '--cpus-per-task=4', '--kill-on-bad-exit=1', '--time=2-0', '--mem=0',
            sys.executable, '-u', f'{tools}/train.py', 'configs/upernet_swin_tiny.py',
            '--work-dir', 'runs/here', '--seed', '3', '--launcher', 'slurm',
        ]  # fmt: skip
        assert path.startswith(f'path {tools}/..:')

    def test_test(self, srun):
        done = shell('slurm_test.sh', 'gpu', 'j', 'c.py', 'w.pth', '--tta', GPUS='2', **srun)
        assert done.status == 0, done.stderr
        words = done.stdout.splitlines()[:-1]
        assert words == [
            '-p', 'gpu', '--job-name=j', '--gres=gpu:2', '--ntasks=2', '--ntasks-per-node=2',
            '--cpus-per-task=5', '--kill-on-bad-exit=1',
            sys.executable, '-u', f'{TOOLS}/test.py', 'c.py', 'w.pth', '--tta', '--launcher', 'slurm',
        ]  # fmt: skip

    def test_analyze(self, srun):
        done = shell('slurm_analyze.sh', 'gpu', 'j', 'erf', 'c.py', 'w.pth', '--limit', '8', **srun)
        assert done.status == 0, done.stderr
        words = done.stdout.splitlines()[-8:-1]
        assert words == [
            f'{TOOLS}/analyze_erf.py', 'c.py', 'w.pth', '--limit', '8', '--launcher', 'slurm',
        ]  # fmt: skip

    def test_exit_status_is_that_of_the_job(self, srun, tmp_path):
        (tmp_path / 'bin' / 'srun').write_text('#!/bin/sh\nexit 3\n')
        assert shell('slurm_test.sh', 'gpu', 'j', 'c.py', 'w.pth', **srun).status == 3
