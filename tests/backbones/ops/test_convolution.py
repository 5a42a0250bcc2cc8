"""Gradients of convolutions compared with PyTorch's in double precision."""

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from backbones.ops import convolution
from backbones.ops.convolution import Convolution
from backbones.ops.cpu import convolution as convolution_cpu


def check_gradients(layer, x):
    """Compare all float32 gradients of a layer with PyTorch's in double precision."""
    tensors = [x.requires_grad_(), *layer.parameters()]
    out = layer(x)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad(out, tensors, grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    weights = exact[1:] if layer.bias is not None else (exact[1], None)
    truth = F.conv2d(
        exact[0].permute(0, 3, 1, 2), *weights, layer.stride, layer.padding, groups=layer.groups
    ).permute(0, 2, 3, 1)
    torch.testing.assert_close(out.double(), truth, rtol=1e-4, atol=1e-4)
    for gradient, expected in zip(found, torch.autograd.grad(truth, exact, grad.double()), strict=True):
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-4, atol=1e-3)


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    kernel_size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.sampled_from([(2, 2), (2, 1), (1, 2), (3, 2)]),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    numbers=st.sampled_from([1, 100, 2**20]),
    bias=st.booleans(),
)
def test_strided(batch, height, width, kernel_size, stride, padding, numbers, bias):
    """Also with few rows unfolded at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, 'UNFOLDED_NUMBERS', numbers)
        patch.setattr(convolution, 'FEWEST_PLACES', 1)
        layer = Convolution(4, 6, kernel_size, stride, padding, bias=bias)
        check_gradients(layer, random(batch, height, width, 4))


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 6, 16, 96]),
    side=st.sampled_from([1, 3, 7]),
    bias=st.booleans(),
)
def test_depthwise(batch, height, width, channels, side, bias):
    layer = Convolution(channels, channels, side, padding=side // 2, groups=channels, bias=bias)
    check_gradients(layer, random(batch, height, width, channels))


@pytest.mark.parametrize('side', [3, 5, 7])
def test_depthwise_under_autocast(side):
    """In bfloat16, the own weight gradient equals PyTorch's up to rounding."""
    layer = Convolution(16, 16, side, padding=side // 2, groups=16)
    x, grad = random(2, 9, 11, 16).requires_grad_(), random(2, 9, 11, 16).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    assert '_Convolution' in out.grad_fn.next_functions[0][0].name()
    found = torch.autograd.grad(out, [x, *layer.parameters()], grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, *layer.parameters())]
    truth = F.conv2d(exact[0].permute(0, 3, 1, 2), *exact[1:], padding=side // 2, groups=16)
    expected = torch.autograd.grad(truth.permute(0, 2, 3, 1), exact, grad.double())
    for gradient, value in zip(found, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - value).abs().max() < 2 * torch.finfo(torch.bfloat16).eps * value.abs().max()


def test_gradient_of_a_depthwise_kernel_by_hand():
    """The gradient of each weight is the product of the map and its shifted copy."""
    x = torch.arange(12.0).view(1, 3, 4, 1)
    found = convolution_cpu.depthwise_weight_gradient(x, x, 3)
    padded = F.pad(x[0, :, :, 0], (1, 1, 1, 1))
    for down in range(3):
        for across in range(3):
            moved = padded[down : down + 3, across : across + 4]
            assert found[0, 0, down, across] == (moved * x[0, :, :, 0]).sum()


def test_number_of_threads_does_not_matter():
    x, grad = random(2, 9, 40, 32), random(2, 9, 40, 32) + 1
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(convolution_cpu.depthwise_weight_gradient(x, grad, 7))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize(
    'layer',
    [
        Convolution(4, 4, 3, padding=1),
        Convolution(4, 4, 3, padding=1, stride=2, groups=2),
        Convolution(4, 4, 3, padding=2, groups=4),
        Convolution(4, 4, 3, padding=2, dilation=2, stride=2),
        Convolution(4, 4, 3, padding=1, stride=2, padding_mode='reflect'),
    ],
    ids=['plain', 'grouped', 'growing', 'dilated', 'reflecting'],
)
def test_other_convolutions_are_left_to_pytorch(layer, monkeypatch):
    monkeypatch.setattr(convolution._Convolution, 'apply', None)
    layer(random(1, 9, 9, 4)).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize('depthwise', [True, False])
def test_second_derivatives(depthwise):
    layer = Convolution(4, 4, 3, padding=1, **({'groups': 4} if depthwise else {'stride': 2}))
    x = random(1, 6, 5, 4).requires_grad_()
    (first,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
    (found,) = torch.autograd.grad(first.sum(), layer.weight)
    exact = layer.weight.detach().double().requires_grad_()
    x = x.detach().double().requires_grad_()
    out = F.conv2d(
        x.permute(0, 3, 1, 2), exact, layer.bias.double(), layer.stride, 1, groups=layer.groups
    )
    (first,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad(first.sum(), exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-2)


def test_flops_of_a_strided_convolution_are_counted_forward_and_backward():
    layer = Convolution(4, 6, 3, stride=2, padding=1)
    with FlopCounterMode(display=False) as counter:
        layer(random(1, 8, 8, 4).requires_grad_()).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 16 * 9 * 4 * 6


def test_weights_are_channels_last():
    """Also after loading, and so are their gradients, which saves a copy."""
    layer, other = Convolution(4, 6, 3, stride=2), torch.nn.Conv2d(4, 6, 3)
    layer.load_state_dict(other.state_dict())
    layer(random(1, 9, 9, 4)).sum().backward()
    for tensor in (layer.weight, layer.weight.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer.weight, other.weight)
