"""Passes: batch sizes, modes and memory."""

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evaluation.benchmark.passes import (
    Mode,
    Size,
    growing_sizes,
    highest_level,
    peak_memory,
    random_images,
    run_pass,
    smaller_sizes,
    tensors_of,
    time_pass,
)
from evaluation.utils.errors import UserError
from tests.evaluation.benchmark.toys import CPU, SIZE

SIDES = st.integers(1, 10_000)


class TestGrowth:
    def test_every_size_once_and_the_smallest_first(self):
        shapes = [(64, 64), (32, 32), (64, 64)]
        assert growing_sizes(shapes, [3]) == [Size(3, 32, 32), Size(3, 64, 64)]
        assert growing_sizes([(64, 96)], [4, 1, 4]) == [Size(1, 64, 96), Size(4, 64, 96)]

    def test_sides_and_batch_cannot_both_grow(self):
        with pytest.raises(UserError, match='vary only one of them'):
            growing_sizes([(32, 32), (64, 64)], [1, 2])


class TestSmaller:
    def test_sides_first_then_the_batch(self):
        assert smaller_sizes(Size(4, 100, 256)) == [
            Size(1, 32, 32),
            Size(1, 32, 64),
            Size(1, 64, 128),
            Size(1, 100, 256),
            Size(2, 100, 256),
        ]

    @given(batch=st.integers(1, 1000), height=SIDES, width=SIDES)
    def test_each_is_smaller_than_the_next_and_at_least_half_of_it(self, batch, height, width):
        rising = [*smaller_sizes(Size(batch, height, width)), Size(batch, height, width)]
        for size, following in pairwise(rising):
            assert size.pixels < following.pixels <= 6 * size.pixels
            assert size.batch <= following.batch <= 2 * size.batch + 1
            for side, larger in ((size.height, following.height), (size.width, following.width)):
                assert larger / 2 <= side <= larger
        assert rising[0].batch == 1
        assert max(rising[0].height, rising[0].width) <= 32

    @given(height=SIDES, width=SIDES)
    def test_sides_are_multiples_of_the_coarsest_stride(self, height, width):
        for size in smaller_sizes(Size(1, height, width)):
            assert size.height % 32 == 0 or size.height == height < 32
            assert size.width % 32 == 0 or size.width == width < 32


def test_text_of_a_size():
    assert str(Size(1, 64, 96)) == '1 image of 64x96 (height x width)'
    assert str(Size(2, 64, 96)) == '2 images of 64x96 (height x width)'


BACKWARD = Mode(CPU.device, backward=True)


class Watched(nn.Module):
    """Records grad mode and dtype of each pass; has two outputs in nested containers."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1)
        self.seen = []

    def forward(self, images):
        outputs = self.convolution(images)
        self.seen.append((torch.is_grad_enabled(), outputs.dtype))
        return {'maps': [outputs], 'scaled': (2 * outputs,)}


@pytest.fixture
def images():
    return random_images(SIZE, CPU.device, seed=0)


class TestPass:
    def test_forward_has_no_gradients(self, images):
        module = Watched()
        run_pass(module, images, CPU)
        assert module.seen == [(False, torch.float32)]
        assert module.convolution.weight.grad is None

    def test_loss_is_the_sum_of_means(self, images):
        module = Watched()
        run_pass(module, images, BACKWARD)
        # Each of four channels has a quarter of the mean, once and twice.
        expected = (3 / 4) * images.mean((0, 2, 3))
        gradient = module.convolution.weight.grad[:, :, 0, 0]
        torch.testing.assert_close(gradient, expected.expand(4, 3))
        torch.testing.assert_close(module.convolution.bias.grad, torch.full((4,), 3 / 4))

    @pytest.mark.parametrize(('dtype', 'expected'), [('bf16', torch.bfloat16), ('fp16', torch.float16)])
    @pytest.mark.parametrize('backward', [False, True])
    def test_other_dtypes_are_autocast(self, images, dtype, expected, backward):
        module = Watched()
        run_pass(module, images, Mode(CPU.device, dtype, backward))
        assert module.seen == [(backward, expected)]
        assert module.convolution.weight.dtype == torch.float32

    def test_gradients_are_cleared_after_timing(self, images):
        module = Watched()
        assert time_pass(module, images, BACKWARD) > 0
        assert module.convolution.weight.grad is None


def test_tensors_of_nested_outputs():
    tensors = [torch.zeros(index) for index in range(4)]
    nested = {'a': [tensors[0], (tensors[1],)], 'b': tensors[2], 'c': None, 'd': (tensors[3], 'word')}
    assert [tensor.shape for tensor in tensors_of(nested)] == [tensor.shape for tensor in tensors]


class TestImages:
    def test_shape_and_distribution(self):
        images = random_images(Size(2, 64, 96), CPU.device, seed=3)
        assert images.shape == (2, 3, 64, 96)
        assert images.mean().abs() < 0.05
        assert abs(images.std() - 1) < 0.05

    def test_depend_only_on_the_seed(self):
        state = torch.get_rng_state()
        one, same, other = (random_images(SIZE, CPU.device, seed) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)


DEVICES = [
    'cpu',
    pytest.param('cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='GPU')),
]
# A multiple of 512 bytes, the block size of the GPU's allocator.
IMAGES = (4, 3, 64, 128)
BYTES = 4 * 4 * 3 * 64 * 128


class Chain(nn.Module):
    """Computes the sine `length` times, and keeps only the last result."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self, images):
        for _ in range(self.length):
            images = torch.sin(images)
        return images


class Kept(nn.Module):
    """Computes the sine `length` times, and keeps all results."""

    def __init__(self, length):
        super().__init__()
        self.length = length

    def forward(self, images):
        sines = [images]
        for _ in range(self.length):
            sines.append(torch.sin(sines[-1]))
        return sines


class TestPeakMemory:
    @pytest.mark.parametrize('device', DEVICES)
    @pytest.mark.parametrize(
        ('module', 'tensors'),
        [(Chain(1), 1), (Chain(2), 2), (Chain(9), 2), (Kept(1), 1), (Kept(9), 9)],
    )
    def test_counts_tensors_alive_at_the_same_time(self, device, module, tensors):
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

    def test_backward_pass_counts_saved_tensors_and_gradients(self):
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
