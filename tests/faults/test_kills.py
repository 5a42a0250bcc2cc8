"""SIGKILL at random moments: a resumed training ends bit for bit as if it had never been killed."""

import random
import re
import signal
import time

import pytest

from tests.commands import Outcome
from tests.faults.trainings import (
    ITERATIONS,
    WORKERS,
    assert_same_end,
    assert_whole,
    data_workers,
    only_error,
    steps_logged,
    wait_until,
)

KIND = 'Machine faults and divergence'
TASKS = ('mask_rcnn', 'upernet')
KILLS = {False: 1, True: 20}
# Approximate duration of these trainings, in seconds; a kill may come at any time.
LONGEST_LIFE = {False: 3.0, True: 6.0}
# Approximate time to write a checkpoint, in seconds.
SAVING = 0.03


def wait_for_the_moment(rng, running, work_dir, longest_life):
    """Wait for a random time, or until one of the next checkpoints is being written."""
    started = time.monotonic()
    if rng.random() < 0.5:
        life = rng.uniform(0.0, longest_life)
        wait_until(lambda: time.monotonic() - started > life, running)
        return
    to_pass = rng.randrange(3)
    for _ in range(to_pass):
        wait_until(lambda: list(work_dir.glob('*.tmp')), running)
        wait_until(lambda: not list(work_dir.glob('*.tmp')), running)
    wait_until(lambda: list(work_dir.glob('*.tmp')), running)
    time.sleep(rng.uniform(0.0, SAVING))


@pytest.mark.parametrize('task', TASKS)
def test_kill_of_a_training(commands, trainings, reference_of, tmp_path, full, tally, progress, task):
    training, reference = trainings[task], reference_of(task)
    rng = random.Random(task)
    wanted, killed, trained = KILLS[full], 0, 0
    said = progress(f'SIGKILL, {task}', wanted)
    work_dir = tmp_path / str(trained)
    while killed < wanted or work_dir.exists():
        running = commands.start('train', *training.command(work_dir, '--resume', **WORKERS))
        if killed < wanted:
            wait_for_the_moment(rng, running, work_dir, LONGEST_LIFE[full])
            running.kill()
        outcome = running.wait()
        if outcome.status == -signal.SIGKILL:
            killed += 1
            assert_whole(work_dir)
            said.advance()
            continue
        assert outcome.status == 0, outcome.stderr[-3000:]
        assert_same_end(work_dir, reference, training.end)
        assert not list(work_dir.glob('*.tmp'))
        trained += 1
        work_dir = tmp_path / str(trained)
    tally('SIGKILL of a training, at random moments', killed, killed, 'nothing', resumed=killed)


@pytest.mark.parametrize('task', TASKS)
def test_kill_of_a_data_worker(
    commands, trainings, reference_of, tmp_path, full, tally, progress, refused, task
):
    """The training ends with one line of error instead of waiting forever for a batch."""
    if task == 'mask_rcnn' and not full:
        pytest.skip('one task is enough without --full')
    training, reference = trainings[task], reference_of(task)
    rng = random.Random(f'worker of {task}')
    wanted = {False: 1, True: 5}[full]
    said = progress(f'SIGKILL of a data worker, {task}', wanted)
    for trial in range(wanted):
        work_dir, steps = tmp_path / str(trial), rng.randrange(ITERATIONS + 1, 2 * ITERATIONS)
        running = commands.start('train', *training.command(work_dir, **WORKERS))
        wait_until(lambda work_dir=work_dir, steps=steps: steps_logged(work_dir) >= steps, running)
        worker = rng.choice(data_workers(running))
        worker.kill()
        outcome = running.wait()
        line = only_error(outcome)
        assert line.startswith(f'error: a data loading process ({worker.pid}) was killed, ')
        line = re.sub(r'\d+/(iter|epoch)_\d+', 'run/iter_3', line.replace(str(worker.pid), '4321'))
        refused(KIND, 'a data loading process killed by SIGKILL', Outcome(2, '', line))
        assert_whole(work_dir)
        commands.succeed('train', *training.command(work_dir, '--resume', **WORKERS))
        assert_same_end(work_dir, reference, training.end)
        said.advance()
    tally('SIGKILL of a data worker alone', wanted, wanted, 'nothing', resumed=wanted)
