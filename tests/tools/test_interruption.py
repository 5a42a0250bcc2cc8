"""Ctrl-C and SIGTERM: one line on how to resume, no traceback, no process left, status 130 or 143."""

import json
import os
import re
import signal
import sys
import time

import pytest

from tests.commands import ROOT
from tests.launching import TOOLS, free_port, places, processes_with, start

KIND = 'Launching'
SECONDS = 120
# A training far longer than the test, with a checkpoint every second step.
LONG = {'train_cfg.max_iters': 100_000, 'train_cfg.val_interval': 100_000}
WORKERS = {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True}


def wait_for(condition, process):
    """Wait until a condition holds, while a process is running."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, 'the process ended too early'
        assert time.monotonic() < end
        time.sleep(0.02)


def stop(process, number, output, work_dir):
    """Signal a process group, as a terminal does; return the status and the last line of stderr."""
    os.killpg(process.pid, number)
    status = process.wait(SECONDS)
    end = time.monotonic() + 10
    while processes_with(work_dir) and time.monotonic() < end:
        time.sleep(0.1)
    assert not processes_with(work_dir)
    stderr = (output / 'stderr').read_text()
    assert 'Traceback' not in stderr
    assert len(re.findall('^interrupted', stderr, re.MULTILINE)) == 1
    return status, stderr.splitlines()[-1]


def checkpoint_named_in(line, work_dir):
    """Return the checkpoint that the line names, which must exist."""
    expected = (
        r'interrupted: the last checkpoint is (\S+); to resume, run the same command with --resume'
    )
    file = re.fullmatch(expected, line)[1]
    assert file.startswith(f'{work_dir}/iter_')
    assert os.path.isfile(file)
    return file


def start_training(trial, tmp_path, launcher):
    work_dir, output = tmp_path / 'run', tmp_path / 'output'
    arguments = ['--work-dir', work_dir, *trial.arguments(**LONG, **WORKERS)]
    process = start([*launcher, *arguments], output, PORT=free_port())
    return process, output, work_dir


def test_training_with_data_workers(commands, trials, tmp_path, errors_page):
    trial = trials['upernet']
    launcher = [sys.executable, TOOLS / 'train.py', trial.config]
    process, output, work_dir = start_training(trial, tmp_path, launcher)
    wait_for((work_dir / 'last_checkpoint').is_file, process)
    assert len(processes_with(work_dir)) == 3
    status, line = stop(process, signal.SIGINT, output, work_dir)
    assert status == 130
    file = checkpoint_named_in(line, work_dir)
    errors_page.enter(KIND, 'Ctrl-C while training', re.sub(r'iter_\d+', 'iter_2', line), status)

    step = int(re.search(r'iter_(\d+)', file)[1])
    arguments = trial.arguments(**{'train_cfg.max_iters': step + 1, 'train_cfg.val_interval': step + 1})
    commands.succeed('train', trial.config, '--resume', '--work-dir', work_dir, *arguments)
    *_, scalars = sorted(work_dir.glob('*/vis_data/scalars.json'))
    steps = [json.loads(entry)['step'] for entry in scalars.read_text().splitlines()]
    assert set(steps) == {step + 1}


@pytest.mark.skipif(places() < 2, reason='this machine has room for one process')
def test_two_processes(trials, tmp_path):
    trial = trials['upernet']
    launcher = ['bash', TOOLS / 'dist_train.sh', trial.config, 2]
    process, output, work_dir = start_training(trial, tmp_path, launcher)
    wait_for((work_dir / 'last_checkpoint').is_file, process)
    status, line = stop(process, signal.SIGINT, output, work_dir)
    assert status == 130
    checkpoint_named_in(line, work_dir)


@pytest.mark.parametrize('command', ['train', 'test'])
@pytest.mark.parametrize('library', ['numpy', 'torch'])
@pytest.mark.parametrize(('number', 'expected'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_it_starts(tmp_path, errors_page, command, library, number, expected):
    """Importing the libraries takes seconds and can be interrupted at any point."""
    marker = tmp_path / 'marker'
    config = ROOT / 'configs/upernet_swin_tiny.py'
    process = start([sys.executable, TOOLS / f'{command}.py', config, marker], tmp_path / 'output')
    wait_for(lambda: is_importing(library, process), process)
    status, line = stop(process, number, tmp_path / 'output', marker)
    assert (status, line) == (expected, 'interrupted')
    if number == signal.SIGINT:
        errors_page.enter(KIND, 'Ctrl-C while a command starts', line, status)


@pytest.mark.parametrize(
    'module', ['numpy', 'numpy._core.multiarray', 'torch._C', 'torchvision', 'mmengine']
)
def test_within_an_import(tmp_path, module):
    """numpy is first imported by C++ code in torch, which drops Python exceptions."""
    marker = tmp_path / 'marker'
    program = (
        'import os, runpy, signal, sys\n'
        'class Finder:\n'
        '    def find_spec(self, name, path, target=None):\n'
        f'        if name == {module!r}:\n'
        '            os.kill(os.getpid(), signal.SIGTERM)\n'
        'sys.meta_path.insert(0, Finder())\n'
        'sys.argv = sys.argv[1:]\n'
        'runpy.run_path(sys.argv[0], run_name="__main__")\n'
    )
    config = ROOT / 'configs/upernet_swin_tiny.py'
    process = start(
        [sys.executable, '-c', program, TOOLS / 'train.py', config, '--work-dir', marker],
        tmp_path / 'output',
    )
    assert process.wait(SECONDS) == 143
    assert (tmp_path / 'output/stderr').read_text() == 'interrupted\n'
    assert not marker.exists()


def is_importing(library, process):
    """Return whether a process has mapped a file of a library."""
    try:
        with open(f'/proc/{process.pid}/maps') as maps:
            return f'/{library}/' in maps.read()
    except OSError:
        return False
