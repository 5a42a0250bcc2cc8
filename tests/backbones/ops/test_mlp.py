"""The MLP in chunks against the same in double precision at once."""

import pytest
import torch
import torch.nn.functional as F

from backbones.ops import mlp as module
from backbones.ops.mlp import Mlp, mlp
from tests.backbones.ops.libraries import LIBRARIES, use_library


@pytest.fixture(params=LIBRARIES, ids=str, autouse=True)
def library(request, monkeypatch):
    use_library(monkeypatch, request.param)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Seven tokens of 12 hidden numbers, so that few tokens make several chunks and a part of one."""
    monkeypatch.setattr(module, 'HIDDEN_NUMBERS', 7 * 12)
    monkeypatch.setattr(module, 'FEWEST_TOKENS', 1)
    monkeypatch.setattr(module, 'NUMBERS_TO_KEEP', 0)


def case(*shape, out=5, hidden=12):
    generator = torch.Generator().manual_seed(0)
    sizes = (shape, (hidden, shape[-1]), (hidden,), (out, hidden), (out,))
    return [torch.randn(*size, generator=generator).requires_grad_() for size in sizes]


def exact(x, weight1, bias1, weight2, bias2):
    x, weight1, bias1, weight2, bias2 = (
        tensor.double() for tensor in (x, weight1, bias1, weight2, bias2)
    )
    return F.gelu(x @ weight1.t() + bias1) @ weight2.t() + bias2


def assert_close(found, expected):
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('shape', [(1, 3), (7, 3), (2, 3, 4, 3), (30, 3), (0, 3)])
def test_values_and_gradients(shape):
    tensors = case(*shape)
    grad = torch.randn(*shape[:-1], 5)
    found = mlp(*tensors)
    assert found.shape == grad.shape
    assert_close(found, exact(*tensors))
    with torch.no_grad():
        assert_close(mlp(*tensors), exact(*tensors))
    gradients = torch.autograd.grad(found, tensors, grad)
    for gradient, truth in zip(
        gradients, torch.autograd.grad(exact(*tensors), tensors, grad.double()), strict=True
    ):
        assert_close(gradient, truth)


def test_strided_tensors():
    x, *weights = case(6, 4, 3)
    found = mlp(x.transpose(0, 1), *weights)
    assert_close(found.transpose(0, 1), exact(x, *weights))
    grad = torch.randn(6, 4, 5)
    (gradient,) = torch.autograd.grad(found, x, grad.transpose(0, 1))
    assert_close(gradient, torch.autograd.grad(exact(x, *weights), x, grad.double())[0])


@pytest.mark.parametrize('wanted', range(5))
def test_only_wanted_gradients(wanted):
    tensors = [tensor.detach() for tensor in case(20, 3)]
    tensors[wanted].requires_grad_()
    mlp(*tensors).sum().backward()
    expected = torch.autograd.grad(exact(*tensors).sum(), tensors[wanted])[0]
    assert_close(tensors[wanted].grad, expected)


def test_second_derivatives():
    tensors = case(20, 3)
    (first,) = torch.autograd.grad(mlp(*tensors).pow(2).sum(), tensors[0], create_graph=True)
    found = torch.autograd.grad(first.sum(), tensors[:4])
    (first,) = torch.autograd.grad(exact(*tensors).pow(2).sum(), tensors[0], create_graph=True)
    for gradient, truth in zip(found, torch.autograd.grad(first.sum(), tensors[:4]), strict=True):
        torch.testing.assert_close(gradient.double(), truth.double(), rtol=1e-3, atol=1e-2)


def test_a_large_hidden_map_is_kept_once(monkeypatch):
    def kept():
        numbers = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: numbers.append(tensor.numel()) or tensor, lambda tensor: tensor
        )
        x, *weights = case(50, 3)
        with hooks:
            mlp(x, *weights)
        return sum(numbers)

    once = kept()
    monkeypatch.setattr(module, 'NUMBERS_TO_KEEP', 50 * 12)
    assert kept() > 2 * 50 * 12
    assert once < 2 * 50 * 12


@pytest.mark.parametrize('training', [True, False])
def test_bfloat16_by_autocast(training):
    tensors = case(30, 3)
    with torch.autocast('cpu', torch.bfloat16), torch.set_grad_enabled(training):
        found = mlp(*tensors)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact(*tensors), rtol=0, atol=0.3)


@pytest.mark.parametrize('training', [True, False])
def test_hooks_and_replaced_methods_are_called(training):
    network, x, seen = Mlp(3, 12), torch.randn(20, 3), []
    network.fc2.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    with torch.set_grad_enabled(training):
        network(x)
        assert seen == [(20, 12)]
        network.fc1.forward = lambda x: torch.zeros(*x.shape[:-1], 12)
        assert_close(network(x), network.fc2.bias.expand(20, 3))


def test_second_pass_of_checkpointing_gives_the_same():
    network, x = Mlp(3, 12), torch.randn(20, 3, requires_grad=True)
    network(x).sum().backward()
    plain, x.grad = x.grad, None
    torch.utils.checkpoint.checkpoint(network, x, use_reentrant=False).sum().backward()
    assert torch.equal(x.grad, plain)
