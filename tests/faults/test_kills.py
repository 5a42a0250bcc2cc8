"""SIGKILL at random moments: what is resumed ends, bit for bit, as if it had never been killed."""

import random
import signal
import time

import pytest

from tests.faults.trainings import (
    WORKERS,
    assert_same_end,
    assert_whole,
    data_workers,
    steps_logged,
    wait_until,
)

TASKS = ('mask_rcnn', 'upernet')
KILLS = {False: 1, True: 20}
# About how long these trainings take; a kill may come at any time of it.
LONGEST_LIFE = 6.0
# About how long it takes to write a checkpoint.
SAVING = 0.03


def wait_for_the_moment(rng, running, work_dir):
    """At any time since the start, or amid the writing of one of the next checkpoints."""
    started = time.monotonic()
    if rng.random() < 0.5:
        life = rng.uniform(0.0, LONGEST_LIFE)
        wait_until(lambda: time.monotonic() - started > life, running)
        return
    to_pass = rng.randrange(3)
    for _ in range(to_pass):
        wait_until(lambda: list(work_dir.glob('*.tmp')), running)
        wait_until(lambda: not list(work_dir.glob('*.tmp')), running)
    wait_until(lambda: list(work_dir.glob('*.tmp')), running)
    time.sleep(rng.uniform(0.0, SAVING))


@pytest.mark.parametrize('task', TASKS)
def test_of_the_training(commands, trainings, reference_of, tmp_path, full, tally, progress, task):
    training, reference = trainings[task], reference_of(task)
    rng = random.Random(task)
    wanted, killed, trained = KILLS[full], 0, 0
    said = progress(f'SIGKILL, {task}', wanted)
    work_dir = tmp_path / str(trained)
    while killed < wanted or work_dir.exists():
        running = commands.start('train', *training.command(work_dir, '--resume', **WORKERS))
        if killed < wanted:
            wait_for_the_moment(rng, running, work_dir)
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
def test_of_a_data_worker(commands, trainings, reference_of, tmp_path, full, tally, progress, task):
    """The training says so in one line and ends, where it might wait for ever for a batch."""
    if task == 'mask_rcnn' and not full:
        pytest.skip('one task is enough in the short form')
    training, reference = trainings[task], reference_of(task)
    rng = random.Random(f'worker of {task}')
    wanted = {False: 1, True: 5}[full]
    said = progress(f'SIGKILL of a data worker, {task}', wanted)
    for trial in range(wanted):
        work_dir, steps = tmp_path / str(trial), rng.randrange(1, 20)
        running = commands.start('train', *training.command(work_dir, **WORKERS))
        wait_until(lambda work_dir=work_dir, steps=steps: steps_logged(work_dir) >= steps, running)
        worker = rng.choice(data_workers(running))
        worker.kill()
        outcome = running.wait()
        assert outcome.status == 2, outcome.stderr[-3000:]
        (line,) = outcome.stderr.splitlines()
        assert line.startswith(f'error: a process that loads data ({worker.pid}) is killed by signal')
        assert_whole(work_dir)
        commands.succeed('train', *training.command(work_dir, '--resume', **WORKERS))
        assert_same_end(work_dir, reference, training.end)
        said.advance()
    tally('SIGKILL of a data worker alone', wanted, wanted, 'nothing', resumed=wanted)
