"""Sweeps on this machine: complete, interrupted, killed, with failures; and no run is done twice."""

import os
import shutil
import signal
import sys

import pytest

from evaluation.sweep.record import Record, change_record
from evaluation.sweep.runs import Digests, Wanted, make_run
from evaluation.sweep.sweep_options import add_arguments, wishes_of
from evaluation.utils.errors import CommandLine
from tests.commands import read_results
from tests.launching import TOOLS, environment_of_tests, processes_with, start
from tests.tools.sweeping import NAME, Project, make_project, wait_for

SECONDS = 240
STEPS = 12
# Six seconds, of which hardly any are work.
LONG = {
    'train_cfg.max_iters': STEPS,
    'train_cfg.val_interval': STEPS,
    'default_hooks.checkpoint.interval': 2,
}


@pytest.fixture
def project(tmp_path, trials, monkeypatch):
    made = make_project(tmp_path / 'project', trials['upernet'])
    path = f'{made.folder}:{environment_of_tests()["PYTHONPATH"]}'
    monkeypatch.setenv('PYTHONPATH', path)
    return made


def begin(project: Project, output, *arguments):
    """Start a sweep as a process of its own."""
    command = [sys.executable, TOOLS / 'sweep.py', *arguments]
    return start(command, output, PYTHONPATH=os.environ['PYTHONPATH'])


def ended(process, output):
    """The exit status of a sweep, and all it said."""
    status = process.wait(SECONDS)
    return status, (output / 'stdout').read_text(), (output / 'stderr').read_text()


def run(project, output, *arguments):
    return ended(begin(project, output, *arguments), output)


def are_training(project, name, seeds):
    """Whether the trainings of some seeds have written a checkpoint."""
    return lambda: all((project.folder_of(name, seed) / 'last_checkpoint').is_file() for seed in seeds)


def test_failing_config_stops_no_other_and_is_tried_once_more(project, tmp_path):
    bad = project.add('upernet_dcn_bad', 'FailingHook')
    patterns = [bad.with_name(f'{NAME}.py'), bad, bad.parents[1] / '_base_/runtime.py']
    arguments = project.arguments(*patterns, more=('--parallel', 2))

    status, plan, _ = run(project, tmp_path / 'plan', *arguments, '--dry-run')
    assert status == 0
    assert not project.root.exists()
    words = [line.split(maxsplit=2)[:2] for line in plan.splitlines()]
    assert words == [
        ['refused', 'runtime/seed_0:'], ['new', 'upernet_dcn_bad/seed_0:'], ['new', f'{NAME}/seed_0:']
    ]  # fmt: skip

    status, said, _ = run(project, tmp_path / 'first', *arguments)
    assert status == 1
    assert '3 runs: 1 done, 1 failed, 1 refused' in said
    assert 'failed: upernet_dcn_bad/seed_0: RuntimeError: the dog ate it (output: ' in said
    assert project.starts('upernet_dcn_bad', 0) == ['scratch', 'scratch']
    assert project.starts(NAME, 0) == ['scratch']
    assert project.iterations(NAME, 0) == [1, 2, 3, 4]
    assert project.record('upernet_dcn_bad', 0)['attempt'] == 2

    status, plan, _ = run(project, tmp_path / 'second', *arguments, '--dry-run')
    assert status == 0
    assert 'retry     upernet_dcn_bad/seed_0: failed before: RuntimeError: the dog ate it' in plan
    assert f'finished  {NAME}/seed_0: ' in plan


def test_interrupted_and_killed_it_ends_complete_and_does_nothing_twice(project, tmp_path, commands):
    slow = project.add('upernet_dcn_slow', 'SlowHook')
    name, seeds = slow.stem, (0, 1)
    arguments = project.arguments(slow, options=LONG, more=('--seeds', 0, 1, '--parallel', 2))

    process = begin(project, tmp_path / 'first', *arguments)
    wait_for(are_training(project, name, seeds), 'no checkpoint')
    # To the whole group, as a terminal does.
    os.killpg(process.pid, signal.SIGINT)
    status, _, stderr = ended(process, tmp_path / 'first')
    assert status == 130
    assert stderr.splitlines()[-1] == (
        'interrupted: 0 of 2 runs are done; 2 running jobs were stopped; repeat the command to go on'
    )
    assert not processes_with(project.folder_of(name, 0))
    for seed in seeds:
        record = project.record(name, seed)
        assert record['state'] == 'interrupted'
        assert record['error'].startswith('interrupted: the last checkpoint is ')

    process = begin(project, tmp_path / 'second', *arguments)
    wait_for(lambda: all(len(project.starts(name, seed)) == 2 for seed in seeds), 'not resumed')
    process.kill()
    process.wait()
    third, other = tmp_path / 'third', tmp_path / 'other'
    process = begin(project, third, *arguments)
    wait_for(lambda: 'runs' in (third / 'stdout').read_text(), 'not adopted')
    status, _, stderr = run(project, other, *arguments)
    # Not while the third is at work; where that has just ended there is nothing left to do.
    assert (status, 'another sweep is at work' in stderr) in [(2, True), (0, False)]
    status, said, _ = ended(process, third)
    assert status == 0, said
    assert '2 runs: 2 done' in said

    for seed in seeds:
        assert len(project.starts(name, seed)) == 2
        # What was trained after the last checkpoint before the interruption is done again, no more.
        steps = project.iterations(name, seed)
        first = steps.index(STEPS) + 1 - len(set(steps))
        assert sorted(set(steps)) == list(range(1, STEPS + 1))
        assert len(steps) - len(set(steps)) <= 2, steps
        assert first >= 0
        finals = [r for r in read_results(project.folder_of(name, seed)) if r['iteration'] == STEPS]
        assert [final['seed'] for final in finals] == [seed]
        assert project.record(name, seed)['state'] == 'done'

    status, said, _ = run(project, tmp_path / 'fourth', *arguments)
    assert status == 0
    assert [line.split()[0] for line in said.splitlines()[:2]] == ['finished', 'finished']
    assert all(len(project.starts(name, seed)) == 2 for seed in seeds)
    table = commands.succeed('table', project.root, '--format', 'csv').stdout
    assert len(table.splitlines()) >= 2


def test_checkpoints_of_a_folder_are_tested_once(project, tmp_path, work_dir_of):
    trained = work_dir_of('upernet')
    config = project.folder / f'configs/demo/{NAME}.py'
    arguments = project.arguments(config, more=('--test-only', trained.parent))
    status, said, _ = run(project, tmp_path / 'first', *arguments)
    assert status == 0, said
    (tested,) = read_results(project.root / NAME / 'test')
    last = read_results(trained)[-1]
    assert tested['checkpoint']['weights_sha256'] == last['checkpoint']['weights_sha256']
    assert tested['metrics'] == pytest.approx(last['metrics'])
    status, said, _ = run(project, tmp_path / 'second', *arguments)
    assert status == 0
    assert said.startswith(f'finished  {NAME}/test: ')
    assert len(read_results(project.root / NAME / 'test')) == 1


def test_goes_on_from_a_whole_checkpoint_of_this_very_config(project, tmp_path, work_dir_of):
    """Three runs that were trained, without a result: as it was, damaged, and under another config."""
    leaf = (project.folder / f'configs/demo/{NAME}.py').read_text()
    # A setting with which a training may be gone on with, but which makes it another run.
    changes = {'whole': '', 'damaged': '', 'edited': 'auto_scale_lr = dict(base_batch_size=7)'}
    configs = [project.folder / f'configs/demo/upernet_dcn_{name}.py' for name in changes]
    arguments = project.arguments(*configs, more=('--parallel', 1))
    parser = CommandLine('')
    add_arguments(parser)
    wishes, digests = wishes_of(parser.parse_args(arguments)), Digests()
    for config, change in zip(configs, changes.values(), strict=True):
        config.write_text(f'{leaf}\n{change}\n')
        task = make_run(Wanted(config, 'seed_0', 0), wishes, digests).task
        shutil.copytree(work_dir_of('upernet'), task.folder)
        for file in task.folder.glob('**/result.json'):
            file.unlink()
        record = Record(task.identity, 'failed', 1, 't', 'local', error='error: no')
        change_record(task.folder, lambda _, record=record: record)
    whole, damaged, edited = (project.folder_of(config.stem, 0) for config in configs)
    os.truncate(damaged / 'iter_4.pth', 1000)
    (damaged / 'last_checkpoint').write_text('')

    status, said, _ = run(project, tmp_path / 'sweep', *arguments)
    assert status == 1
    assert '3 runs: 2 done, 1 failed' in said
    assert project.iterations(whole.parent.name, 0) == [1, 2, 3, 4]
    assert project.iterations(damaged.parent.name, 0) == [1, 2, 3, 4, 3, 4]
    # What is gone on from is evaluated first, where that was missed.
    evaluated = [[r['iteration'] for r in read_results(folder)] for folder in (whole, damaged)]
    assert evaluated == [[4], [2, 4]]
    assert f'error: {edited}/iter_4.pth was trained under a different config (digest ' in said
    assert not read_results(edited)
