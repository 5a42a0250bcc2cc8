"""Additions of the suite's runner to mmengine's."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from evaluation.engine import runner as module
from evaluation.engine.runner import BenchmarkRunner
from evaluation.utils.errors import UserError
from evaluation.utils.scalars import LENGTH


@pytest.mark.parametrize(
    ('elsewhere', 'named'),
    [(('epoch_2.pth', True), 'epoch_2.pth, epoch_3.pth'), (('', False), 'epoch_3.pth, nothing')],
)
def test_processes_must_start_from_the_same_checkpoint(monkeypatch, elsewhere, named):
    """Machines with different file systems would train different weights without an error."""
    here = SimpleNamespace(_load_from='run/epoch_3.pth', _resume=True, to_test=None)
    monkeypatch.setattr(module, 'all_gather_object', lambda mine: [mine, elsewhere])
    with pytest.raises(UserError, match=named):
        BenchmarkRunner._check_one_start(here)


def test_same_name_in_different_folders_is_allowed(monkeypatch):
    here = SimpleNamespace(_load_from='/here/epoch_3.pth', _resume=True, to_test=None)
    monkeypatch.setattr(module, 'all_gather_object', lambda mine: [mine, ('epoch_3.pth', True)])
    BenchmarkRunner._check_one_start(here)


def wrapper():
    groups = [{'params': [torch.zeros(1, requires_grad=True)], 'lr': rate} for rate in (0.1, 0.01)]
    return OptimWrapper(torch.optim.SGD(groups))


def scaled(optim_wrapper, accumulated, scaling, processes=2):
    """Scale the learning rates of a training with 4 images per process."""
    runner = object.__new__(BenchmarkRunner)
    runner.cfg = Config(
        {'train_dataloader': {'batch_size': 4}, 'optim_wrapper': {'accumulative_counts': accumulated}}
    )
    runner._world_size = processes
    runner.logger = MMLogger('scaled')
    runner.scale_lr(optim_wrapper, scaling)


@pytest.mark.parametrize(('accumulated', 'factor'), [(1, 0.5), (2, 1.0), (4, 2.0)])
def test_rate_is_scaled_with_the_effective_batch(accumulated, factor):
    """The rate is for a batch of 16: 4 images on each of 2 processes, accumulated twice."""
    one, several = wrapper(), OptimWrapperDict(first=wrapper(), second=wrapper())
    for each in (one, several):
        scaled(each, accumulated, {'enable': True, 'base_batch_size': 16})
    for each in (one, *several.values()):
        assert each.get_lr()['lr'] == pytest.approx([0.1 * factor, 0.01 * factor])


@pytest.mark.parametrize('scaling', [None, {'enable': False, 'base_batch_size': 16}])
def test_rate_is_not_scaled_by_default(scaling):
    one = wrapper()
    scaled(one, 4, scaling)
    assert one.get_lr()['lr'] == [0.1, 0.01]


@DATASETS.register_module()
class RefusedImages(BaseDataset):
    """A data set that rejects one image, as a user's transform may do."""

    def load_data_list(self):
        return [{'place': place} for place in range(5)]

    def prepare_data(self, index):
        if index == 3:
            raise UserError('image 3 is upside down')
        return index


@pytest.mark.parametrize('num_workers', [0, 2])
def test_user_error_in_a_loading_process_is_raised_unchanged(num_workers):
    runner = object.__new__(BenchmarkRunner)
    runner._hooks = []
    settings = {'dataset': {'type': 'RefusedImages'}, 'batch_size': 1, 'num_workers': num_workers}
    loader = runner.build_dataloader(
        {**settings, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    )
    batches = list(loader)
    assert [*batches[:3], batches[4]] == [[0], [1], [2], [4]]
    with pytest.raises(UserError, match=r'^image 3 is upside down$'):
        runner.call_hook('before_val_iter', batch_idx=3, data_batch=batches[3])


@pytest.mark.parametrize('by_epoch', [True, False])
def test_length_in_iterations_is_written(tmp_path, by_epoch):
    runner = object.__new__(BenchmarkRunner)
    runner._log_dir, runner._train_dataloader = str(tmp_path), DataLoader([1, 2, 3, 4, 5], batch_size=2)
    runner._val_loop, runner._train_loop = None, None
    kind = 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop'
    loop = runner.build_train_loop({'type': kind, 'max_epochs' if by_epoch else 'max_iters': 7})
    assert json.loads((tmp_path / LENGTH).read_text()) == {'iterations': 21 if by_epoch else 7}
    assert loop.max_iters == (21 if by_epoch else 7)
