import pytest
import torch
from torch import nn

from evaluation.benchmark.passes import Mode, random_images, run_pass, tensors_of, time_pass
from evaluation.benchmark.sizes import Size
from tests.evaluation.benchmark.toys import CPU, SIZE

BACKWARD = Mode(CPU.device, backward=True)


class Watched(nn.Module):
    """Notes what it runs under; two outputs in nested containers."""

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

    def test_backward_is_of_the_sum_of_means(self, images):
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

    def test_gradients_do_not_outlive_the_clock(self, images):
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

    def test_the_seed_alone_decides(self):
        state = torch.get_rng_state()
        one, same, other = (random_images(SIZE, CPU.device, seed) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert torch.equal(torch.get_rng_state(), state)
