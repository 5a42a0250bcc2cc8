"""Augmentation depends only on seed and sample; random states survive evaluation and interruption."""

import contextlib
import pickle
import random

import numpy as np
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, Dataset

from evaluation.data.image_loading import (
    DrawnIndex,
    SeededDataset,
    SeededInfiniteSampler,
    SeededSampler,
)
from evaluation.utils.random_state import random_state, restore_random_state, seeded


def draws():
    """Return a number from each generator that transforms draw from."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


class Drawing(Dataset):
    """Data set whose samples are their index and random draws."""

    def __init__(self):
        self.metainfo = {'classes': ('a',)}

    def __getitem__(self, index):
        assert type(index) is int
        return index, *draws()

    def __len__(self):
        return 10


def samples(workers, sampler_type=SeededSampler, seed=0, epoch=0):
    dataset = SeededDataset(Drawing(), seed)
    sampler = sampler_type(dataset, shuffle=True, seed=0)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=list)
    return [sample for batch in loader for sample in batch]


class TestSeeded:
    def test_seeds_determine_all_draws(self):
        found = []
        for numbers in ((0, 1), (0, 1), (1, 0), (0, 1, 2)):
            with seeded(*numbers):
                found.append(draws())
        assert found[0] == found[1]
        assert len({value for each in found for value in each}) == 9

    def test_does_not_change_the_outer_generators(self):
        state = random_state()
        expected = draws()
        restore_random_state(state)
        with contextlib.suppress(KeyError), seeded(3):
            draws()
            raise KeyError
        assert draws() == expected


class TestSeededDataset:
    def test_samples_do_not_depend_on_workers(self):
        alone = samples(workers=0)
        random.seed(99)
        assert samples(workers=3) == alone
        assert sorted(index for index, *_ in alone) == list(range(10))
        assert len({sample[1:] for sample in alone}) == 10

    def test_samples_depend_on_seed_and_epoch(self):
        first = {index: drawn for index, *drawn in samples(0)}
        for other in (samples(0, seed=1), samples(0, epoch=1)):
            assert all(first[index] != drawn for index, *drawn in other)

    def test_outer_draws_are_unchanged(self):
        state = random_state()
        expected = draws()
        restore_random_state(state)
        SeededDataset(Drawing(), 0)[DrawnIndex(3, 0)]
        assert draws() == expected

    def test_delegates_to_the_data_set(self):
        dataset = SeededDataset(Drawing(), 0)
        assert dataset.metainfo == {'classes': ('a',)}
        assert len(dataset) == 10
        assert not hasattr(dataset, 'nothing')
        copy = pickle.loads(pickle.dumps(dataset))
        assert copy[DrawnIndex(3, 1)] == dataset[DrawnIndex(3, 1)]


class TestSamplers:
    def test_epochs_in_the_order_of_mmengine(self):
        data = range(10)
        ours, theirs = SeededSampler(data, True, 5), DefaultSampler(data, True, 5)
        for epoch in (0, 3):
            for sampler in (ours, theirs):
                sampler.set_epoch(epoch)
            drawn = list(ours)
            assert drawn == list(theirs)
            assert {index.draw for index in drawn} == {epoch}

    def test_iterations_in_the_order_of_mmengine(self):
        data = range(10)
        ours, theirs = SeededInfiniteSampler(data, True, 5), InfiniteSampler(data, True, 5)
        drawn = [index for index, _ in zip(ours, range(25), strict=False)]
        assert drawn == [index for index, _ in zip(theirs, range(25), strict=False)]
        assert [index.draw for index in drawn] == list(range(25))

    def test_skipping_keeps_the_draw_numbers(self):
        whole = SeededInfiniteSampler(range(10), True, 5)
        expected = [(int(index), index.draw) for index, _ in zip(whole, range(20), strict=False)]
        resumed = SeededInfiniteSampler(range(10), True, 5)
        resumed.skip(7)
        found = [(int(index), index.draw) for index, _ in zip(resumed, range(13), strict=False)]
        assert found == expected[7:]

    def test_pickling_keeps_the_draw_number(self):
        index = pickle.loads(pickle.dumps(DrawnIndex(4, 2)))
        assert (index, index.draw) == (4, 2)


def test_random_state_survives_a_checkpoint(tmp_path):
    from backbones.checkpoint import read_checkpoint

    torch.save({'meta': {'random_states': [random_state()]}}, tmp_path / 'a.pth')
    expected = draws()
    (state,) = read_checkpoint(str(tmp_path / 'a.pth'))['meta']['random_states']
    restore_random_state(state)
    assert draws() == expected
