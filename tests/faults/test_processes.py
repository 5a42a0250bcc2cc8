"""One of two processes is killed or diverges: both end, the error names the cause, both can resume."""

import random
import re
import signal
import sys
import time

import psutil
import pytest

from tests.commands import Outcome
from tests.faults.test_divergence import poisoned
from tests.faults.trainings import (
    assert_same_end,
    assert_whole,
    checkpoints,
    metrics,
    only_error,
)
from tests.launching import TOOLS, free_port, places, processes_with, start

# Time limit, long enough for a training on a busy machine.
SECONDS = 180
RESTARTS = {False: 2, True: 6}

pytestmark = pytest.mark.skipif(places() < 2, reason='this machine has room for one process')


@pytest.fixture
def launched(tmp_path):
    """Start a training in two processes; kill what is left of it at the end of the test."""
    started = []

    def launch(name, training, work_dir, *wishes, restarts=0, **options):
        config, *arguments = training.command(work_dir, *wishes, **options)
        process = start(
            ['bash', TOOLS / 'dist_train.sh', config, 2, *arguments],
            tmp_path / name,
            PORT=free_port(),
            MAX_RESTARTS=str(restarts),
        )
        started.append(process)
        return process, tmp_path / name

    yield launch
    for process in started:
        if process.poll() is None:
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
            process.kill()


def process_of(launcher, rank):
    """Return the process of a rank; None before it has started."""
    try:
        for each in psutil.Process(launcher.pid).children(recursive=True):
            if each.environ().get('RANK') == str(rank) and any('train.py' in w for w in each.cmdline()):
                return each
    except psutil.Error:  # a process that has just started or ended
        pass
    return None


def wait_for(condition, process):
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, 'the process ended too early'
        assert time.monotonic() < end
        time.sleep(0.01)


def outcome_of(process, output):
    """Wait for all processes to end, with a time limit."""
    status = process.wait(SECONDS)
    return Outcome(status, (output / 'stdout').read_text(), (output / 'stderr').read_text())


def test_killed_process_ends_the_other(trainings, launched, tmp_path, full, tally):
    training, work_dir = trainings['upernet'], tmp_path / 'run'
    for rank in (1, 0) if full else (1,):
        process, output = launched(f'output{rank}', training, work_dir / str(rank))
        wait_for(lambda rank=rank: checkpoints(work_dir / str(rank)), process)
        process_of(process, rank).kill()
        outcome = outcome_of(process, output)
        assert outcome.status == 128 + signal.SIGKILL, outcome.stderr[-3000:]
        last = outcome.stderr.splitlines()[-1]
        assert last.startswith(f'error: process {rank} on this machine was killed by SIGKILL')
        assert not processes_with(work_dir / str(rank))
        assert_whole(work_dir / str(rank))
        tally('SIGKILL of one of two processes', 1, 1, 'nothing')


def test_restarts_resume_from_the_last_checkpoint(
    commands, trainings, launched, tmp_path, full, tally, progress
):
    """`MAX_RESTARTS`; checkpoints that were already in the work dir are ignored."""
    training, work_dir, rng = trainings['upernet'], tmp_path / 'run', random.Random(0)
    kills = RESTARTS[full]
    said = progress('SIGKILL of one of two processes, restarted', kills)
    work_dir.mkdir()
    (work_dir / 'last_checkpoint').write_text('of another training')
    process, output = launched('output', training, work_dir, restarts=kills)
    for number in range(kills):
        # The first kill comes before there is a checkpoint.
        wait_for(lambda number=number: len(checkpoints(work_dir)) >= 2 * number, process)
        wait_for(lambda: process_of(process, 0) and process_of(process, 1), process)
        victim = process_of(process, rng.randrange(2))
        if number:
            time.sleep(rng.uniform(0, 0.2))
        victim.kill()
        victim.wait(SECONDS)
        said.advance()
    outcome = outcome_of(process, output)
    assert outcome.status == 0, outcome.stderr[-3000:]
    resumed = re.findall(r'resumed epoch: 0, iter: (\d+)', outcome.stdout)
    assert len(resumed) == kills - 1
    assert 'of another training' not in outcome.stderr
    # Testing the checkpoint in one process gives the metrics of the training in two.
    checkpoint, tested = work_dir / f'{training.end}.pth', tmp_path / 'tested'
    arguments = ['--work-dir', tested, *training.trial.arguments()]
    commands.succeed('test', training.trial.config, checkpoint, *arguments)
    (its,) = metrics(tested).values()
    assert its == metrics(work_dir)[max(metrics(work_dir))]
    if full:
        process, output = launched('reference', training, tmp_path / 'reference')
        assert outcome_of(process, output).status == 0
        assert_same_end(work_dir, tmp_path / 'reference', training.end)
    tally('SIGKILL of one of two processes, restarted', kills, kills, 'nothing', resumed=kills)


@pytest.mark.parametrize(('status', 'starts'), [(2, 1), (3, 4)])
def test_bad_input_is_not_retried(tmp_path, status, starts):
    """Other failures are retried as often as `--max_restarts` allows."""
    script = tmp_path / 'script.py'
    record = f'open({str(tmp_path / "starts")!r}, "a").write("x")'
    script.write_text(f'import sys\n{record}\nsys.exit({status})\n')
    launcher = [sys.executable, TOOLS / 'launch.py', '--nproc_per_node', 1, '--max_restarts', 3]
    process = start([*launcher, '--master_port', free_port(), script], tmp_path / 'output')
    assert outcome_of(process, tmp_path / 'output').status == status
    assert (tmp_path / 'starts').read_text() == 'x' * starts


@pytest.mark.parametrize('rank', [0, 1])
def test_nan_loss_in_one_process(trainings, launched, tmp_path, full, tally, rank):
    """The gradients of one process make both models NaN; the process that sees it first reports it."""
    if not full:
        pytest.skip('only with --full')
    training, work_dir = trainings['upernet'], tmp_path / 'run'
    options = poisoned(5, False, tmp_path / 'witness', rank)
    process, output = launched('output', training, work_dir, **options)
    line = only_error(outcome_of(process, output))
    assert 'is nan at iteration 5, ' in line
    assert ('process 1 of 2: ' in line) == (rank == 1)
    assert [file.name for file in checkpoints(work_dir)] == ['iter_3.pth']
    assert not processes_with(work_dir)
    tally('NaN in one of two processes', 1, 1, 'nothing')
