"""A NaN or infinite loss: the training stops, reports where, and keeps the good checkpoints."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from evaluation.engine.hooks.training import TOLERATED_IN_A_ROW, DivergenceHook
from evaluation.utils.errors import UserError
from tests.faults.trainings import (
    ITERATIONS,
    assert_same_end,
    assert_whole,
    checkpoints,
    only_error,
    scalars,
)

KIND = 'Machine faults and divergence'
POISON = 'default_hooks__poison__'


def poisoned(iteration, after, witness, rank=0):
    """Return config overrides that set a weight to NaN."""
    return {
        f'{POISON}type': 'tests.faults.poison.PoisonHook',
        f'{POISON}iteration': iteration,
        f'{POISON}after': after,
        f'{POISON}rank': rank,
        f'{POISON}witness': witness,
    }


@pytest.mark.parametrize('after', [False, True], ids=['loss', 'weights'])
def test_training(commands, trainings, reference_of, tmp_path, full, tally, refused, after):
    """NaN in the loss, or in weights that are about to be saved."""
    for task in ('upernet', 'mask_rcnn') if full else ('upernet',):
        training, reference = trainings[task], reference_of(task)
        work_dir, witness = tmp_path / task, tmp_path / 'witness.json'
        # In the last step before the third checkpoint.
        iteration = 3 * ITERATIONS if task == 'upernet' else 6
        options = poisoned(iteration, after, witness)
        line = only_error(commands('train', *training.command(work_dir, **options)))
        assert ('the loss' in line) != after
        assert f'at iteration {iteration}, learning rate ' in line
        rate = scalars(reference)[iteration]['lr']
        assert f'learning rate {rate:.3g}, ' in line
        names = ', '.join(Path(path).name for path in json.loads(witness.read_text()))
        assert f'images {names}; ' in line
        kept = [f'{stem}.pth' for stem in training.checkpoints[:2]]
        assert [file.name for file in checkpoints(work_dir)] == kept
        assert line.endswith(f'{kept[-1]}; to resume, run the same command with --resume')
        assert_whole(work_dir)
        if task == 'upernet':
            given = 'NaN in the weights' if after else 'NaN in the loss'
            refused(KIND, given, SimpleNamespace(status=2, stdout='', stderr=line))
        if full or not after:
            commands.succeed('train', *training.command(work_dir, '--resume'))
            assert_same_end(work_dir, reference, training.end)
        tally('NaN in the loss or in the weights', 1, 1, 'nothing', resumed=int(full or not after))


@pytest.fixture
def hook_after():
    """Call the hook after an iteration with a given loss."""
    hook = DivergenceHook()
    rate = SimpleNamespace(current=lambda: 1e-3)
    hub = SimpleNamespace(get_scalar=lambda _: rate)

    def call(loss, scaled):
        wrapper = SimpleNamespace(**({'loss_scaler': object()} if scaled else {}))
        runner = SimpleNamespace(optim_wrapper=wrapper, message_hub=hub, iter=41)
        samples = [SimpleNamespace(img_path=f'folder/{i}.jpg') for i in range(10)]
        outputs = {'loss': torch.tensor(loss), 'loss_mask': torch.tensor(loss)}
        outputs['loss_cls'] = torch.tensor(1.0)
        hook.after_train_iter(runner, 0, {'data_samples': samples}, outputs)

    return call


class TestHook:
    @pytest.mark.parametrize('loss', [float('inf'), -float('inf'), float('nan')])
    def test_full_precision_stops_at_once(self, hook_after, loss):
        hook_after(1.0, scaled=False)
        with pytest.raises(UserError) as caught:
            hook_after(loss, scaled=False)
        message = str(caught.value)
        assert message.startswith(f'the loss (loss_mask) is {loss} at iteration 42, learning rate 0.001')
        assert 'images 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, 5.jpg, 6.jpg, 7.jpg and 2 more; ' in message

    def test_mixed_precision_tolerates_some_infinite_losses(self, hook_after, capsys):
        for _ in range(3):
            for _ in range(TOLERATED_IN_A_ROW):
                hook_after(float('inf'), scaled=True)
            hook_after(1.0, scaled=True)
        warnings = capsys.readouterr().err.splitlines()
        assert len(warnings) == 3 * TOLERATED_IN_A_ROW
        assert all(line.startswith('warning: the loss (loss_mask) is inf at ') for line in warnings)

    def test_mixed_precision_stops_after_too_many(self, hook_after):
        for _ in range(TOLERATED_IN_A_ROW):
            hook_after(float('inf'), scaled=True)
        with pytest.raises(UserError, match='is inf'):
            hook_after(float('inf'), scaled=True)

    def test_mixed_precision_stops_at_nan(self, hook_after):
        with pytest.raises(UserError, match='is nan'):
            hook_after(float('nan'), scaled=True)
