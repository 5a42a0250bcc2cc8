"""Sweeps as Slurm arrays, and `slurm_train.sh`, on a temporary cluster on this machine."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.commands import read_results
from tests.launching import TOOLS, shell, start
from tests.slurm import PATH, cluster, why_not
from tests.tools.sweeping import make_project, wait_for

SECONDS = 400
STEPS = 12
LONG = {
    'train_cfg.max_iters': STEPS,
    'train_cfg.val_interval': STEPS,
    'default_hooks.checkpoint.interval': 2,
}

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(scope='module')
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp('slurm')) as running:
        yield running


@pytest.fixture
def project(slurm, tmp_path, trials, monkeypatch):
    made = make_project(tmp_path / 'project', trials['upernet'])
    monkeypatch.setenv('PYTHONPATH', str(made.folder))
    monkeypatch.setenv('SLURM_CONF', slurm.environment['SLURM_CONF'])
    monkeypatch.setenv('PATH', PATH)
    return made


def begin(output, *arguments):
    path = f'{os.environ["PYTHONPATH"]}:{TOOLS.parent}'
    return start([sys.executable, TOOLS / 'sweep.py', *arguments], output, PYTHONPATH=path)


def ended(process, output):
    status = process.wait(SECONDS)
    return status, Path(output, 'stdout').read_text(), Path(output, 'stderr').read_text()


def test_array_is_detached_requeued_and_adopted(project, slurm, tmp_path):
    slow = project.add('upernet_dcn_slow', 'SlowHook')
    name = slow.stem
    options = ('--seeds', 0, 1, '--gpus', 0, '--cpus-per-gpu', 1, '--executor', 'slurm')
    options = (*options, '--time', 60, '--requeue', 1, '--partition', 'cpu')
    arguments = project.arguments(slow, options=LONG, more=options)

    process = begin(tmp_path / 'first', *arguments)
    wait_for(lambda: (project.folder_of(name, 0) / 'last_checkpoint').is_file(), 'no checkpoint')
    jobs = [project.record(name, seed)['job'] for seed in (0, 1)]
    array = jobs[0].partition('_')[0]
    assert jobs == [f'{array}_0', f'{array}_1']
    os.killpg(process.pid, signal.SIGINT)
    status, _, stderr = ended(process, tmp_path / 'first')
    assert status == 130
    assert f'2 jobs keep running on Slurm; `scancel {array}` cancels them' in stderr.splitlines()[-1]

    # Slurm sends this signal before the time limit of a job, or before it is preempted.
    slurm.run('scancel', '--signal=USR2', jobs[0])
    wait_for(lambda: len(project.starts(name, 0)) == 2, 'not started again')
    assert project.starts(name, 0)[0] == 'scratch'
    assert project.record(name, 0)['job'] == jobs[0]

    process = begin(tmp_path / 'second', *arguments)
    status, said, _ = ended(process, tmp_path / 'second')
    assert status == 0, said
    assert '2 runs: 2 done' in said
    assert [len(project.starts(name, seed)) for seed in (0, 1)] == [2, 1]
    for seed in (0, 1):
        finals = [r for r in read_results(project.folder_of(name, seed)) if r['iteration'] == STEPS]
        assert [final['seed'] for final in finals] == [seed]
        assert project.record(name, seed)['job'] == jobs[seed]
        steps = project.iterations(name, seed)
        assert sorted(set(steps)) == list(range(1, STEPS + 1))


def test_rejected_jobs_are_reported_and_not_queued(project, slurm, tmp_path):
    config = project.folder / 'configs/demo/upernet_dcn_micro.py'
    options = ('--executor', 'slurm', '--time', 60, '--partition', 'nowhere')
    process = begin(tmp_path / 'first', *project.arguments(config, more=options))
    status, _, stderr = ended(process, tmp_path / 'first')
    assert status == 2
    assert stderr.splitlines()[-1].startswith('error: Slurm rejected the jobs: sbatch: error: ')
    assert 'partition' in stderr
    assert slurm.run('squeue', '--noheader') == ''
    assert project.record('upernet_dcn_micro', 0)['state'] == 'interrupted'


def test_slurm_train(project, trials, tmp_path):
    """Two tasks train together, on the CPU because the GPUs are fake."""
    done = shell(
        'slurm_train.sh', 'gpu', 'job', trials['upernet'].config, tmp_path / 'run',
        *trials['upernet'].arguments(train_cfg__max_iters=2),
        GPUS='2', CPUS_PER_TASK='1', SLURM_CONF=os.environ['SLURM_CONF'], PATH=PATH,
    )  # fmt: skip
    assert done.status == 0, done.stderr[-3000:]
    (result,) = read_results(tmp_path / 'run')
    assert (result['hardware']['world_size'], result['batch_size']) == (2, 8)
