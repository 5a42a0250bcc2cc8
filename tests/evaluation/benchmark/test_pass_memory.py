from itertools import accumulate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evaluation.benchmark.pass_memory import highest_level, peak_memory
from evaluation.benchmark.passes import Mode
from tests.evaluation.benchmark.toys import CPU

DEVICES = [
    'cpu',
    pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='GPU')),
]
# The GPU's allocator hands out blocks of 512 bytes.
IMAGES = (4, 3, 64, 128)
BYTES = 4 * 4 * 3 * 64 * 128


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
