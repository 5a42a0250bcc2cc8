"""Local sweeps: complete, interrupted, killed, and with failures; no run is repeated."""

import os
import shutil
import signal

import pytest

from evaluation.sweep.record import Record, change_record
from evaluation.sweep.runs import Digests, Wanted, make_run
from evaluation.sweep.sweep_options import add_arguments, wishes_of
from evaluation.utils.errors import CommandLine
from tests.commands import read_results
from tests.launching import processes_with
from tests.tools.sweeping import NAME, make_project, wait_for

STEPS = 12
# Takes six seconds, mostly sleep.
LONG = {
    'train_cfg.max_iters': STEPS,
    'train_cfg.val_interval': STEPS,
    'default_hooks.checkpoint.interval': 2,
}


@pytest.fixture
def project(tmp_path, trials):
    return make_project(tmp_path / 'project', trials['upernet'])


@pytest.fixture
def begin(commands, project):
    """Start a sweep in a separate process."""
    return lambda *arguments: commands.start('sweep', *arguments, modules=project.folder)


@pytest.fixture
def run(begin):
    """Run a sweep to its end."""
    return lambda *arguments: begin(*arguments).wait()


def are_training(project, name, seeds):
    """Return a function that tells whether the trainings of some seeds have written a checkpoint."""
    return lambda: all((project.folder_of(name, seed) / 'last_checkpoint').is_file() for seed in seeds)


def test_failing_config_does_not_stop_others_and_is_retried_once(project, run):
    bad = project.add('upernet_dcn_bad', 'FailingHook')
    patterns = [bad.with_name(f'{NAME}.py'), bad, bad.parents[1] / '_base_/runtime.py']
    arguments = project.arguments(*patterns, more=('--parallel', 2))

    outcome = run(*arguments, '--dry-run')
    status, plan = outcome.status, outcome.stdout
    assert status == 0
    assert not project.root.exists()
    words = [line.split(maxsplit=2)[:2] for line in plan.splitlines()]
    assert words == [
        ['refused', 'runtime/seed_0:'], ['new', 'upernet_dcn_bad/seed_0:'], ['new', f'{NAME}/seed_0:']
    ]  # fmt: skip

    outcome = run(*arguments)
    status, said = outcome.status, outcome.stdout
    assert status == 1
    assert '3 runs: 1 done, 1 failed, 1 refused' in said
    assert 'failed: upernet_dcn_bad/seed_0: RuntimeError: the dog ate it (output: ' in said
    assert project.starts('upernet_dcn_bad', 0) == ['scratch', 'scratch']
    assert project.starts(NAME, 0) == ['scratch']
    assert project.iterations(NAME, 0) == [1, 2, 3, 4]
    assert project.record('upernet_dcn_bad', 0)['attempt'] == 2

    outcome = run(*arguments, '--dry-run')
    status, plan = outcome.status, outcome.stdout
    assert status == 0
    assert 'retry     upernet_dcn_bad/seed_0: failed before: RuntimeError: the dog ate it' in plan
    assert f'finished  {NAME}/seed_0: ' in plan


def test_interrupted_and_killed_sweep_resumes_and_repeats_nothing(project, commands, begin, run):
    slow = project.add('upernet_dcn_slow', 'SlowHook')
    name, seeds = slow.stem, (0, 1)
    arguments = project.arguments(slow, options=LONG, more=('--seeds', 0, 1, '--parallel', 2))

    first = begin(*arguments)
    wait_for(are_training(project, name, seeds), 'no checkpoint')
    # Signal the whole group, as a terminal does.
    os.killpg(first.process, signal.SIGINT)
    outcome = first.wait()
    assert outcome.status == 130
    assert outcome.stderr.splitlines()[-1] == (
        'interrupted: 0 of 2 runs are done; 2 running jobs were stopped; '
        'to resume, run the same command again'
    )
    assert not processes_with(project.folder_of(name, 0))
    for seed in seeds:
        record = project.record(name, seed)
        assert record['state'] == 'interrupted'
        assert record['error'].startswith('interrupted: the last checkpoint is ')

    second = begin(*arguments)
    wait_for(lambda: all(len(project.starts(name, seed)) == 2 for seed in seeds), 'not resumed')
    os.kill(second.process, signal.SIGKILL)
    second.wait()
    third = begin(*arguments)
    wait_for(lambda: 'runs' in (third.output / 'stdout').read_text(), 'not adopted')
    other = run(*arguments)
    # Refused while the third sweep is running; if that has just ended, nothing is left to do.
    assert (other.status, 'another sweep is running' in other.stderr) in [(2, True), (0, False)]
    outcome = third.wait()
    assert outcome.status == 0, outcome.stdout
    assert '2 runs: 2 done' in outcome.stdout

    for seed in seeds:
        assert len(project.starts(name, seed)) == 2
        # Only steps after the last checkpoint before the interruption are repeated.
        steps = project.iterations(name, seed)
        first = steps.index(STEPS) + 1 - len(set(steps))
        assert sorted(set(steps)) == list(range(1, STEPS + 1))
        assert len(steps) - len(set(steps)) <= 2, steps
        assert first >= 0
        finals = [r for r in read_results(project.folder_of(name, seed)) if r['iteration'] == STEPS]
        assert [final['seed'] for final in finals] == [seed]
        assert project.record(name, seed)['state'] == 'done'

    outcome = run(*arguments)
    status, said = outcome.status, outcome.stdout
    assert status == 0
    assert [line.split()[0] for line in said.splitlines()[:2]] == ['finished', 'finished']
    assert all(len(project.starts(name, seed)) == 2 for seed in seeds)
    table = commands.succeed('table', project.root, '--format', 'csv').stdout
    assert len(table.splitlines()) >= 2


def test_checkpoints_of_a_folder_are_tested_once(project, run, work_dir_of):
    trained = work_dir_of('upernet')
    config = project.folder / f'configs/demo/{NAME}.py'
    arguments = project.arguments(config, more=('--test-only', trained.parent))
    outcome = run(*arguments)
    status, said = outcome.status, outcome.stdout
    assert status == 0, said
    (tested,) = read_results(project.root / NAME / 'test')
    last = read_results(trained)[-1]
    assert tested['checkpoint']['weights_sha256'] == last['checkpoint']['weights_sha256']
    assert tested['metrics'] == pytest.approx(last['metrics'])
    outcome = run(*arguments)
    status, said = outcome.status, outcome.stdout
    assert status == 0
    assert said.startswith(f'finished  {NAME}/test: ')
    assert len(read_results(project.root / NAME / 'test')) == 1


def test_resumes_only_from_a_valid_checkpoint_of_the_same_config(project, run, work_dir_of):
    """Three trained runs without results: intact, with a damaged checkpoint, with an edited config."""
    leaf = (project.folder / f'configs/demo/{NAME}.py').read_text()
    # This setting allows a training to resume, but makes it a different run.
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

    outcome = run(*arguments)
    status, said = outcome.status, outcome.stdout
    assert status == 1
    assert '3 runs: 2 done, 1 failed' in said
    assert project.iterations(whole.parent.name, 0) == [1, 2, 3, 4]
    assert project.iterations(damaged.parent.name, 0) == [1, 2, 3, 4, 3, 4]
    # A checkpoint without a result is evaluated before the training resumes.
    evaluated = [[r['iteration'] for r in read_results(folder)] for folder in (whole, damaged)]
    assert evaluated == [[4], [2, 4]]
    assert f'error: {edited}/iter_4.pth was trained with a different config (digest ' in said
    assert not read_results(edited)
