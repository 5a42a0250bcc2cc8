from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evaluation.benchmark import memory
from evaluation.benchmark.memory import (
    OutOfMemoryError,
    highest_level,
    is_out_of_memory,
    out_of_memory_raised,
    peak_memory,
    refused_beyond_free_memory,
)
from evaluation.benchmark.passes import Mode
from tests.evaluation.benchmark.toys import CPU

DEVICES = [
    'cpu',
    pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='GPU')),
]
# The GPU's allocator hands out blocks of 512 bytes.
IMAGES = (4, 3, 64, 128)
BYTES = 4 * 4 * 3 * 64 * 128
MEGABYTE = 2**20


class Chain(nn.Module):
    """Takes the sine a number of times, and keeps the newest result only."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self, images):
        for _ in range(self.length):
            images = torch.sin(images)
        return images


class Kept(nn.Module):
    """Keeps every one of a number of sines."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self, images):
        sines = [images]
        for _ in range(self.length):
            sines.append(torch.sin(sines[-1]))
        return sines


class TestPeak:
    @pytest.mark.parametrize('device', DEVICES)
    @pytest.mark.parametrize(
        ('module', 'tensors'),
        [(Chain(1), 1), (Chain(2), 2), (Chain(9), 2), (Kept(1), 1), (Kept(9), 9)],
    )
    def test_of_tensors_that_are_alive_at_a_time(self, device, module, tensors):
        images = torch.zeros(IMAGES, device=device)
        assert peak_memory(module, images, Mode(torch.device(device))) == tensors * BYTES

    @pytest.mark.parametrize('device', DEVICES)
    def test_weights_and_images_do_not_count(self, device):
        class Weighted(Chain):
            def __init__(self):
                super().__init__(1)
                self.weight = nn.Parameter(torch.zeros(10 * BYTES))

        images = torch.zeros(IMAGES, device=device)
        assert peak_memory(Weighted().to(device), images, Mode(torch.device(device))) == BYTES

    def test_of_a_backward_pass_has_what_it_keeps_and_the_gradients(self):
        class Sine(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(IMAGES))

            def forward(self, images):
                return torch.sin(images * self.weight)

        module, images = Sine(), torch.zeros(IMAGES)
        forward = peak_memory(module, images, CPU)
        both = peak_memory(module, images, Mode(CPU.device, backward=True))
        assert forward == 2 * BYTES
        # The product, which the sine keeps, and its result; then the gradients of both and the weight's.
        assert 3 * BYTES <= both < 6 * BYTES
        assert module.weight.grad is None

    @given(st.lists(st.integers(-100, 100)))
    def test_highest_level(self, changes):
        assert highest_level(changes) == max([0, *accumulate(changes)])


class TestFailure:
    @pytest.mark.parametrize('batch', [1, 2**31])
    def test_of_the_cpu_for_real(self, batch):
        with pytest.raises(OutOfMemoryError), out_of_memory_raised(CPU.device):
            torch.empty(batch, 3, 1_000_000, 1_000_000)

    @pytest.mark.parametrize('error', [MemoryError(), torch.OutOfMemoryError('CUDA out of memory')])
    def test_of_python_and_of_gpus(self, error):
        assert is_out_of_memory(error)
        with pytest.raises(OutOfMemoryError), out_of_memory_raised(CPU.device):
            raise error

    @pytest.mark.parametrize('error', [RuntimeError('shapes differ'), ValueError('DefaultCPUAllocator')])
    def test_others_stay_what_they_are(self, error):
        with pytest.raises(type(error), match=str(error)), out_of_memory_raised(CPU.device):
            raise error

    def test_gives_back_what_the_failed_pass_held(self):
        released = []

        class Held:
            def __del__(self):
                released.append(True)

        def fail():
            held = Held()
            torch.empty(1, 3, 1_000_000, 1_000_000)
            return held

        with pytest.raises(OutOfMemoryError) as caught, out_of_memory_raised(CPU.device):
            fail()
        assert caught.value
        assert released == [True]


@pytest.mark.skipif(memory.free_memory() is None, reason='what is free is not known here')
class TestLimit:
    def test_what_is_free_is_known(self):
        assert 10 * MEGABYTE < memory.free_memory() < 2**50

    def test_more_than_is_free_is_refused(self, monkeypatch):
        monkeypatch.setattr(memory, 'free_memory', lambda: 100 * MEGABYTE)
        with refused_beyond_free_memory(CPU.device):
            with pytest.raises(OutOfMemoryError), out_of_memory_raised(CPU.device):
                torch.ones(300 * MEGABYTE, dtype=torch.uint8)
            torch.ones(50 * MEGABYTE, dtype=torch.uint8)
        torch.ones(300 * MEGABYTE, dtype=torch.uint8)

    def test_in_parts_too(self, monkeypatch):
        """Each is little enough to be granted; Linux would kill the process that uses them all."""
        monkeypatch.setattr(memory, 'free_memory', lambda: 200 * MEGABYTE)
        parts = []

        def take_all():
            with out_of_memory_raised(CPU.device):
                while True:
                    parts.append(torch.empty(40 * MEGABYTE, dtype=torch.uint8))

        with refused_beyond_free_memory(CPU.device), pytest.raises(OutOfMemoryError):
            take_all()
        # What the process had freed before is granted beside the limit.
        assert 3 <= len(parts) <= 40

    def test_gpus_are_left_alone(self, monkeypatch):
        monkeypatch.setattr(memory, 'free_memory', lambda: MEGABYTE)
        with refused_beyond_free_memory(torch.device('cuda')):
            torch.ones(100 * MEGABYTE, dtype=torch.uint8)

    def test_control_groups_count(self, monkeypatch, tmp_path):
        monkeypatch.setattr(memory, '_CGROUPS', tmp_path)
        assert memory.free_memory() > 1000
        (tmp_path / 'memory.max').write_text('5000\n')
        (tmp_path / 'memory.current').write_text('4000\n')
        assert memory.free_memory() == 1000
        (tmp_path / 'memory.max').write_text('max\n')
        assert memory.free_memory() > 1000
