"""A training killed after it wrote a checkpoint and before it evaluated it."""

import shutil

import pytest

from tests.faults.trainings import assert_same_end, metrics


@pytest.mark.parametrize('task', ['mask_rcnn', 'upernet'])
def test_missed_evaluation_runs_on_resume(
    commands, trainings, reference_of, tmp_path, full, tally, task
):
    if task == 'mask_rcnn' and not full:
        pytest.skip('one task is enough without --full')
    training, reference, work_dir = trainings[task], reference_of(task), tmp_path / 'run'
    shutil.copytree(reference, work_dir)
    shutil.rmtree(next(work_dir.glob(f'*/{training.end}')))
    (work_dir / 'last_checkpoint').write_text(str(work_dir / f'{training.end}.pth'))
    assert metrics(work_dir) != metrics(reference)
    before = (work_dir / f'{training.end}.pth').read_bytes()
    commands.succeed('train', *training.command(work_dir, '--resume'))
    assert_same_end(work_dir, reference, training.end)
    assert (work_dir / f'{training.end}.pth').read_bytes() == before
    if full:
        results = sorted(work_dir.rglob('result.json'))
        # After that, there is nothing left to do.
        commands.succeed('train', *training.command(work_dir, '--resume'))
        assert sorted(work_dir.rglob('result.json')) == results
    tally('stopped between a checkpoint and its evaluation', 1, 1, 'nothing', resumed=1)
