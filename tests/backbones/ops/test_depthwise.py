"""Large depthwise convolutions compared with loops and with PyTorch in double precision."""

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from backbones.errors import BackboneError
from backbones.ops import depthwise_reference
from backbones.ops.cpu import depthwise as depthwise_cpu
from backbones.ops.depthwise import depthwise_convolution, weight_gradient

HALF = (torch.float16, torch.bfloat16)


@pytest.fixture
def own_everywhere(monkeypatch):
    """Use the compiled code for small maps and kernels too."""
    monkeypatch.setattr(depthwise_cpu, 'SMALLEST_SIDE', 1)
    monkeypatch.setattr(depthwise_cpu, 'FEWEST_TOKENS', 0)


def random(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def in_loops(x, weight, bias):
    """Follow the definition, one pixel and one tap at a time."""
    x, weight, bias = (tensor.double().numpy() for tensor in (x, weight, bias))
    out, reach = np.zeros(x.shape), weight.shape[-1] // 2
    batch, height, width, _ = x.shape
    for b, y, column in itertools.product(range(batch), range(height), range(width)):
        out[b, y, column] = bias
        for down, across in itertools.product(range(-reach, reach + 1), repeat=2):
            if 0 <= y + down < height and 0 <= column + across < width:
                tap = weight[:, 0, down + reach, across + reach]
                out[b, y, column] += tap * x[b, y + down, column + across]
    return torch.from_numpy(out)


def by_pytorch(x, weight, bias=None):
    """Convolve without cropping the kernel."""
    side = weight.shape[-1]
    out = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=side // 2, groups=len(weight))
    return out.permute(0, 2, 3, 1)


def assert_near(found, exact, dtype=torch.float32):
    """Compare relative to the largest value: sums in float32, rounded once to `dtype`."""
    largest = exact.abs().max().item() if exact.numel() else 0.0
    tolerance = max(2e-6, torch.finfo(dtype).eps if dtype in HALF else 0)
    torch.testing.assert_close(found.double(), exact.double(), rtol=0, atol=tolerance * largest)


def check(x, weight, bias, dtype=torch.float32):
    """Compare output and gradients with PyTorch's in double precision."""
    x = x.to(dtype)
    tensors = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    out = depthwise_convolution(*tensors)
    assert out.dtype == dtype
    assert out.is_contiguous()
    grad = random(*x.shape, seed=1, dtype=dtype)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    truth = by_pytorch(*exact)
    assert_near(out, truth, dtype)
    gradients = torch.autograd.grad(out, tensors, grad)
    expected = torch.autograd.grad(truth, exact, grad.double())
    for tensor, one, other in zip(tensors, gradients, expected, strict=True):
        assert one.dtype == tensor.dtype
        assert_near(one, other, tensor.dtype)


SIZES = st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 20))


@pytest.mark.parametrize('path', ['fast', 'reference'])
@pytest.mark.parametrize(('size', 'side'), [((2, 4, 5, 6), 7), ((1, 5, 3, 16), 3), ((1, 1, 1, 16), 5)])
@pytest.mark.usefixtures('own_everywhere')
def test_output_by_loops(monkeypatch, path, size, side):
    monkeypatch.setenv('DENSE_MIXERS_CPU', path)
    x, weight, bias = random(*size), random(size[-1], 1, side, side), random(size[-1], seed=2)
    assert_near(depthwise_convolution(x, weight, bias), in_loops(x, weight, bias))


@pytest.mark.parametrize('side', [1, 3, 5, 13, 31])
@pytest.mark.usefixtures('own_everywhere')
def test_gradient_of_a_kernel_by_hand(side):
    """The gradient of each weight is the product of the gradient and the shifted map."""
    x, grad = random(2, 6, 9, 16), random(2, 6, 9, 16, seed=1)
    found = weight_gradient(x, grad, side)
    reach = side // 2
    padded = F.pad(x.double(), (0, 0, reach, reach, reach, reach))
    for down, across in itertools.product(range(side), repeat=2):
        expected = (padded[:, down : down + 6, across : across + 9] * grad).sum((0, 1, 2))
        torch.testing.assert_close(found[:, 0, down, across].double(), expected, rtol=0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    size=SIZES,
    channels=st.sampled_from([6, 16, 48]),
    side=st.integers(0, 15).map(lambda half: 2 * half + 1),
    dtype=st.sampled_from([torch.float32, *HALF]),
    is_own=st.booleans(),
)
def test_any_size(size, channels, side, dtype, is_own):
    with pytest.MonkeyPatch.context() as patch:
        if is_own:
            patch.setattr(depthwise_cpu, 'SMALLEST_SIDE', 1)
            patch.setattr(depthwise_cpu, 'FEWEST_TOKENS', 0)
        check(random(*size, channels), random(channels, 1, side, side), random(channels), dtype)


@pytest.mark.parametrize(
    ('size', 'side'), [((1, 67, 9, 16), 13), ((2, 3, 150, 16), 31), ((1, 35, 131, 32), 27)], ids=str
)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_several_strips_and_chunks(size, side, dtype):
    check(random(*size), random(size[-1], 1, side, side), random(size[-1]), dtype)


def test_weights_may_be_in_half_precision():
    x, weight = random(1, 24, 24, 16, dtype=HALF[1]), random(16, 1, 11, 11, dtype=HALF[1])
    weight.requires_grad_()
    out = depthwise_convolution(x, weight)
    assert_near(out, by_pytorch(x.double(), weight.double()), HALF[1])
    out.sum().backward()
    assert weight.grad.dtype == HALF[1]


@pytest.mark.parametrize('side', [5, 11])
def test_autocast_changes_nothing_in_the_operator(side):
    x, weight = random(1, 24, 24, 16), random(16, 1, side, side)
    expected = depthwise_convolution(x, weight)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(depthwise_convolution(x, weight), expected)


@pytest.mark.parametrize('path', ['fast', 'reference'])
@pytest.mark.usefixtures('own_everywhere')
def test_taps_that_never_meet_the_map(monkeypatch, path):
    """They have no gradient and no influence."""
    monkeypatch.setenv('DENSE_MIXERS_CPU', path)
    x, weight = random(2, 5, 6, 16), random(16, 1, 31, 31)
    meets = torch.zeros(31, 31, dtype=torch.bool)
    meets[11:20, 10:21] = True
    changed = weight.where(meets, random(16, 1, 31, 31, seed=2)).requires_grad_()
    out = depthwise_convolution(x, changed)
    torch.testing.assert_close(out, depthwise_convolution(x, weight))
    out.backward(random(2, 5, 6, 16, seed=1))
    assert (changed.grad[:, 0, ~meets] == 0).all()
    assert (changed.grad[:, 0, meets] != 0).all()


@pytest.mark.usefixtures('own_everywhere')
def test_a_pixel_only_reaches_its_neighborhood():
    """Two rows are computed together, so that two more rows may have rounding errors of zero."""
    for y, side in itertools.product(range(12), (5, 7, 9)):
        x = torch.zeros(1, 12, 12, 16)
        x[0, y, 6] = 1
        found = depthwise_convolution(x, random(16, 1, side, side))[0, ..., 3].abs()
        reach = side // 2
        rows, columns = slice(max(0, y - reach), y + reach + 1), slice(6 - reach, 7 + reach)
        assert (found[rows, columns] > 1e-4).all()
        found[rows, columns] = 0
        assert found.max() < 1e-6
        found[max(0, y - reach - 2) : y + reach + 3, columns] = 0
        assert found.max() == 0


@pytest.mark.usefixtures('own_everywhere')
def test_non_finite_pixels_do_not_spread_to_other_channels_or_images():
    x, weight = random(2, 20, 20, 16), random(16, 1, 9, 9)
    expected = depthwise_convolution(x, weight)
    x[0, 10, 10, 5] = torch.nan
    found = depthwise_convolution(x, weight)
    assert found[0, 6:15, 6:15, 5].isnan().all()
    found[0, ..., 5] = expected[0, ..., 5]
    assert torch.equal(found, expected)


@pytest.mark.parametrize('size', [(0, 5, 6, 16), (2, 0, 6, 16)])
def test_empty(size):
    x, weight = random(*size).requires_grad_(), random(16, 1, 11, 11).requires_grad_()
    out = depthwise_convolution(x, weight, random(16))
    assert out.shape == size
    out.sum().backward()
    assert x.grad.shape == size
    assert (weight.grad == 0).all()


def test_memory_layout_does_not_matter():
    x, weight, grad = random(2, 24, 30, 16), random(16, 1, 11, 11), random(2, 24, 30, 16, seed=1)
    strided = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(depthwise_convolution(strided, weight), depthwise_convolution(x, weight))
    flipped = grad.flip(2).contiguous().flip(2)
    assert torch.equal(weight_gradient(strided, flipped, 11), weight_gradient(x, grad, 11))


def test_number_of_threads_does_not_matter():
    x, weight, grad = random(2, 40, 70, 32), random(32, 1, 13, 13), random(2, 40, 70, 32, seed=1)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append((depthwise_convolution(x, weight), weight_gradient(x, grad, 13)))
    finally:
        torch.set_num_threads(threads)
    for out, gradient in found[1:]:
        assert torch.equal(out, found[0][0])
        assert torch.equal(gradient, found[0][1])


def test_reference_in_double_precision():
    """Also the gradients of gradients."""
    x, weight, bias = (
        tensor.double().requires_grad_()
        for tensor in (random(2, 4, 3, 2), random(2, 1, 5, 5), random(2, seed=3))
    )
    torch.testing.assert_close(depthwise_convolution(x, weight, bias), by_pytorch(x, weight, bias))
    assert torch.autograd.gradcheck(depthwise_convolution, (x, weight, bias))
    assert torch.autograd.gradgradcheck(depthwise_convolution, (x, weight, bias))


def test_second_derivatives_of_the_compiled_code():
    x, weight = random(1, 24, 24, 16).requires_grad_(), random(16, 1, 11, 11).requires_grad_()
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, weight)]
    found, expected = [], []
    for function, tensors, results in (
        (depthwise_convolution, (x, weight), found),
        (by_pytorch, exact, expected),
    ):
        first = torch.autograd.grad(function(*tensors).pow(2).sum(), tensors, create_graph=True)
        results.extend(torch.autograd.grad(sum(each.pow(2).sum() for each in first), tensors))
    for one, other in zip(found, expected, strict=True):
        assert_near(one, other)


def test_custom_operators_are_registered_correctly():
    x, weight, bias = random(1, 24, 24, 16), random(16, 1, 11, 11), random(16)
    arguments = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    torch.library.opcheck(torch.ops.dense_mixers.depthwise_convolution, tuple(arguments))
    maps = random(1, 24, 24, 16), random(1, 24, 24, 16, seed=1)
    for side in (5, 11):
        torch.library.opcheck(torch.ops.dense_mixers.depthwise_weight_gradient, (*maps, side))


@pytest.mark.parametrize('device', ['cpu', 'meta'])
@pytest.mark.parametrize('path', ['fast', 'reference'])
def test_flops_are_those_of_all_taps(monkeypatch, device, path):
    monkeypatch.setenv('DENSE_MIXERS_CPU', path)
    x, weight = random(2, 5, 6, 16).to(device), random(16, 1, 31, 31).to(device)
    with FlopCounterMode(display=False) as counter:
        depthwise_convolution(x.requires_grad_(), weight.requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 31**2 * (2 * 5 * 6) * 16


@pytest.mark.parametrize('shape', [(16, 1, 4, 4), (16, 1, 3, 5), (8, 1, 3, 3), (16, 3, 3)])
def test_wrong_shapes(shape):
    with pytest.raises(BackboneError, match=r'expected \(B, H, W, C\) and \(C, 1, K, K\)'):
        depthwise_convolution(random(1, 4, 4, 16), random(*shape))


def test_only_worthwhile_sizes_are_computed_by_the_compiled_code(monkeypatch):
    calls = []
    monkeypatch.setattr(
        depthwise_reference, 'forward', lambda x, weight, bias: calls.append(weight.shape[-1]) or x
    )
    for size, side in [((1, 24, 24, 16), 11), ((1, 24, 24, 16), 5), ((1, 7, 7, 16), 13)]:
        depthwise_cpu.forward(random(*size), random(16, 1, side, side), None)
    assert calls == [5, 13]
