"""A full or read-only disk, and data that disappear: one clear error, and earlier files are kept.

Tests that mount file systems need root and are skipped otherwise.
"""

import random
import shutil

import pytest

from tests.commands import Outcome
from tests.faults.mounts import mount, mounted, needs_mounts, read_only
from tests.faults.trainings import (
    ITERATIONS,
    WORKERS,
    Training,
    assert_same_end,
    assert_whole,
    checkpoints,
    only_error,
    steps_logged,
    wait_until,
)

KIND = 'Machine faults and divergence'
TASKS = ('mask_rcnn', 'upernet')
FULL_DISKS = 5
MIB = 2**20


def test_checkpoint_larger_than_the_limit_on_file_sizes(
    commands, trainings, reference_of, tmp_path, tally, refused
):
    """The limit on file sizes stands in for a full disk where none can be mounted."""
    training, work_dir = trainings['upernet'], tmp_path / 'run'
    shutil.copytree(reference_of('upernet'), work_dir)
    first, *later = checkpoints(work_dir)
    for file in later:
        file.unlink()
    for file in work_dir.glob('*/iter_*'):
        shutil.rmtree(file)
    (work_dir / 'last_checkpoint').write_text(str(first))
    before = first.read_bytes()
    command = training.command(work_dir, '--resume')
    outcome = commands.start('train', *command, file_size=5 * MIB).wait()
    refused(
        KIND, 'a checkpoint larger than the limit on file sizes', outcome, 'iter_6.pth: File too large'
    )
    assert checkpoints(work_dir) == [first]
    assert first.read_bytes() == before
    assert not list(work_dir.glob('*.tmp'))
    commands.succeed('train', *command)
    assert_same_end(work_dir, reference_of('upernet'), training.end)
    tally('checkpoint larger than the limit on file sizes', 1, 1, 'nothing', resumed=1)


@needs_mounts
def test_full_disk(commands, trainings, reference_of, tmp_path, full, tally, progress):
    """The disk fills up at any point: in a log, the scalars, a checkpoint, or a result."""
    if not full:
        pytest.skip('only with --full; otherwise, the test with a limit on file sizes replaces it')
    said = progress('full disk', FULL_DISKS * len(TASKS))
    for task in TASKS:
        training, rng = trainings[task], random.Random(task)
        for trial in range(FULL_DISKS):
            work_dir = tmp_path / f'{task}_{trial}'
            size = rng.randrange(8 * 1024, 96 * 1024) if trial % 2 else rng.randrange(5 * MIB, 60 * MIB)
            with mounted(work_dir, f'size={size}'):
                stopped = commands('train', *training.command(work_dir, **WORKERS))
                line = only_error(stopped)
                assert str(work_dir) in line
                assert 'No space left on device; free some space there' in line
                assert_whole(work_dir)
                assert not list(work_dir.glob('*.tmp'))
                kept = {file: file.read_bytes() for file in checkpoints(work_dir)}
                assert mount('-o', f'remount,size={500 * MIB}', work_dir)
                commands.succeed('train', *training.command(work_dir, '--resume', **WORKERS))
                assert all(file.read_bytes() == content for file, content in kept.items())
                assert_same_end(work_dir, reference_of(task), training.end)
            said.advance()
    number = FULL_DISKS * len(TASKS)
    tally('full disk', number, number, 'nothing', resumed=number)


def test_predictions_larger_than_the_limit_on_file_sizes(
    commands, trainings, reference_of, tmp_path, full, tally
):
    if not full:
        pytest.skip('only with --full')
    for task in TASKS:
        training, file = trainings[task], tmp_path / f'{task}.pkl'
        checkpoint = reference_of(task) / f'{training.end}.pth'
        wishes = ['--out', file, '--work-dir', tmp_path / task]
        command = [training.trial.config, checkpoint, *wishes, *training.trial.arguments()]
        running = commands.start('test', *command, file_size=14 * 1024)
        assert 'File too large; raise the limit on file sizes' in only_error(running.wait())
        assert not list(tmp_path.glob(f'*{file.name}*'))
        assert not list((tmp_path / task).rglob('result.json'))
        commands.succeed('test', *command)
        assert file.is_file()
        tally('predictions larger than the limit on file sizes', 1, 1, 'nothing')


HIDDEN = {
    'becomes read-only': (read_only, 'Read-only file system; make it writable'),
    # An empty folder replaces it, like a mount point without its mount.
    'disappears': (
        lambda folder: mounted(folder, 'size=64k'),
        'its folder is missing; mount or restore ',
    ),
}


@needs_mounts
@pytest.mark.parametrize('fault', HIDDEN)
def test_work_dir_while_training(commands, trainings, reference_of, tmp_path, full, tally, fault):
    """The log is already open, so it can still be written."""
    if fault == 'disappears' and not full:
        pytest.skip('only with --full')
    hide, message = HIDDEN[fault]
    for task in TASKS if full else ('upernet',):
        training, work_dir = trainings[task], tmp_path / task
        running = commands.start('train', *training.command(work_dir))
        wait_until(lambda work_dir=work_dir: checkpoints(work_dir), running)
        with hide(work_dir):
            outcome = running.wait()
        line = only_error(outcome)
        assert f'error: {work_dir}/' in line
        assert message in line
        assert_whole(work_dir)
        commands.succeed('train', *training.command(work_dir, '--resume'))
        assert_same_end(work_dir, reference_of(task), training.end)
        tally(f'work dir that {fault}', 1, 1, 'nothing', resumed=1)


@needs_mounts
def test_read_only_from_the_start(commands, trainings, tmp_path, tally, refused):
    work_dir = tmp_path / 'run'
    with mounted(work_dir, 'ro'):
        outcome = commands('train', *trainings['upernet'].command(work_dir))
        refused(KIND, 'a work dir on a read-only file system', outcome, 'is not writable')
    tally('work dir that is read-only', 1, 1, 'nothing')


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('workers', [{}, WORKERS], ids=['alone', 'workers'])
def test_data_that_disappear(
    commands, trainings, reference_of, tmp_path, full, tally, refused, task, workers
):
    """For example, a file server becomes unavailable during an epoch."""
    if not full and (task, workers) != ('upernet', WORKERS):
        pytest.skip('one case is enough without --full')
    training, work_dir = trainings[task], tmp_path / 'run'
    data = tmp_path / 'data'
    shutil.copytree(training.trial.data_root, data)
    moved = Training(on_other_data(training.trial, data), training.checkpoints, training.length)
    running = commands.start('train', *moved.command(work_dir, **workers))
    wait_until(lambda: steps_logged(work_dir) > ITERATIONS, running)
    folder = data / {'mask_rcnn': 'train2017', 'upernet': 'images/training'}[task]
    folder.rename(tmp_path / 'away')
    outcome = running.wait()
    line = only_error(outcome)
    assert f'error: {folder}/' in line
    assert ' is missing; restore it' in line
    assert_whole(work_dir)
    last = checkpoints(work_dir)[-1]
    assert line.endswith(
        f'; the last checkpoint is {last}; to resume, run the same command with --resume'
    )
    if task == 'upernet':
        row = line.replace(last.name, 'iter_3.pth').partition('ADE_train_')
        refused(
            KIND, 'images removed while training',
            Outcome(2, '', f'{row[0]}ADE_train_00000004{row[2][8:]}'),
        )  # fmt: skip
    (tmp_path / 'away').rename(folder)
    commands.succeed('train', *moved.command(work_dir, '--resume', **workers))
    assert_same_end(work_dir, reference_of(task), training.end)
    tally('images removed during an epoch', 1, 1, 'nothing', resumed=1)


def on_other_data(trial, data_root):
    """Return the same trial with a different data root."""
    return type(trial)(trial.task, trial.config, data_root, trial.options, trial.halfway, trial.end)
