import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from backbones.ops.cpu.onednn import has_wide_units, narrowest_by_onednn
from backbones.ops.linear import Linear, Mlp, cast_once, linear, linear_gelu
from tests.backbones.ops.libraries import LIBRARIES, use_library


@pytest.fixture(params=LIBRARIES, ids=str, autouse=True)
def library(request, monkeypatch):
    use_library(monkeypatch, request.param)


def case(*shape, out=7, bias=True):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator)
    weight = torch.randn(out, shape[-1], generator=generator)
    return x, weight, torch.randn(out, generator=generator) if bias else None


def exact(x, weight, bias):
    out = x.double() @ weight.double().t()
    return out if bias is None else out + bias.double()


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(
    ('shape', 'out'), [((5, 3), 7), ((2, 3, 4, 64), 16), ((1, 9, 9, 16), 64), ((0, 3), 7)]
)
def test_values_and_gradients(shape, out, bias):
    tensors = [t if t is None else t.requires_grad_() for t in case(*shape, out=out, bias=bias)]
    grad = torch.randn(*shape[:-1], out)
    found = linear(*tensors)
    torch.testing.assert_close(found.double(), exact(*tensors), rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(linear(*tensors), found)
    wanted = [t for t in tensors if t is not None]
    gradients = torch.autograd.grad(found, wanted, grad)
    expected = torch.autograd.grad(exact(*tensors), wanted, grad.double())
    for gradient, truth in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient.double(), truth.double(), rtol=1e-5, atol=1e-4)


def test_only_needed_gradients():
    x, weight, bias = case(5, 3)
    linear(x, weight.requires_grad_(), bias).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(7, -1))
    x, weight, bias = case(5, 3)
    linear(x.requires_grad_(), weight, bias).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(5, -1))


def test_strided_input_and_gradient():
    x, weight, bias = case(4, 6, 5)
    turned = x.transpose(0, 1).requires_grad_()
    found = linear(turned, weight, bias).transpose(0, 1)
    torch.testing.assert_close(found.double(), exact(x, weight, bias), rtol=1e-5, atol=1e-5)
    grad = torch.randn(6, 4, 7).transpose(0, 1)
    (gradient,) = torch.autograd.grad(found, turned, grad)
    torch.testing.assert_close(gradient.transpose(0, 1), grad @ weight)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_gelu_of_a_linear_layer(dtype):
    x, weight, bias = case(4, 50, 16, out=64)
    truth = F.gelu(exact(x, weight, bias))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-1
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        found = linear_gelu(x, weight, bias)
        with torch.no_grad():
            fused = linear_gelu(x, weight, bias)
    assert found.dtype == fused.dtype == dtype
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=tolerance)
    torch.testing.assert_close(fused.double(), truth, rtol=0, atol=tolerance)


@pytest.mark.parametrize('shape', [(1, 3), (2, 3, 4, 3), (0, 3)])
def test_mlp_and_its_gradients(shape):
    network, x = Mlp(3, 12), torch.randn(*shape, requires_grad=True)
    tensors, grad = [x, *network.parameters()], torch.randn(*shape)
    truth = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = exact(F.gelu(exact(*truth[:3])), *truth[3:])
    found = network(x)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(network(x).double(), expected, rtol=1e-4, atol=1e-5)
    gradients = torch.autograd.grad(found, tensors, grad)
    expected_gradients = torch.autograd.grad(expected, truth, grad.double())
    for gradient, right in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient.double(), right, rtol=1e-4, atol=1e-4)


def test_double_precision_and_other_devices_are_left_to_pytorch():
    x, weight, bias = (tensor.double() for tensor in case(5, 3))
    assert torch.equal(linear(x, weight, bias), F.linear(x, weight, bias))
    on_meta = [tensor.to('meta') for tensor in case(5, 3)]
    assert linear(*on_meta).shape == (5, 7)


def test_names_and_initial_values_are_those_of_pytorch():
    torch.manual_seed(0)
    own = Linear(3, 7)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(3, 7)
    assert own.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), theirs.parameters(), strict=True))
    assert Mlp(3, 7).state_dict().keys() == {'fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias'}


def test_flops_are_counted_forward_and_backward():
    x, weight, bias = case(2, 10, 16, out=32)
    with FlopCounterMode(display=False) as counter:
        linear(x.requires_grad_(), weight.requires_grad_(), bias).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 20 * 16 * 32


def test_cast_once_follows_autocast():
    x = torch.ones(3)
    assert cast_once(x) is x
    with torch.autocast('cpu', torch.bfloat16):
        assert cast_once(x).dtype == torch.bfloat16


def test_second_derivatives_and_function_transforms():
    x, weight, bias = (tensor.requires_grad_() for tensor in case(4, 3))
    (first,) = torch.autograd.grad(linear(x, weight, bias).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), weight)
    truth = [tensor.detach().double().requires_grad_() for tensor in (x, weight, bias)]
    (first,) = torch.autograd.grad(exact(*truth).pow(3).sum(), truth[0], create_graph=True)
    (expected,) = torch.autograd.grad(first.sum(), truth[1])
    torch.testing.assert_close(second.double(), expected, rtol=1e-4, atol=1e-3)
    gradient = torch.func.grad(lambda w: linear(x.detach(), w, bias.detach()).sum())(weight.detach())
    torch.testing.assert_close(gradient, x.detach().sum(0).expand(7, -1))


def test_layers_can_be_traced_hooked_and_replaced():
    x = torch.randn(2, 3)
    mlp = Mlp(3, 7)
    traced = torch.jit.trace(mlp, x)
    torch.testing.assert_close(traced(x), mlp(x))
    seen = []
    mlp.fc1.register_forward_hook(lambda *_: seen.append('fc1'))
    mlp(x)
    assert seen == ['fc1']
    mlp.fc1 = torch.nn.Sequential(torch.nn.Linear(3, 7), torch.nn.ReLU())
    torch.testing.assert_close(mlp(x), mlp.fc2(mlp.fc1(x)))


def test_nothing_is_saved_for_unneeded_gradients():
    x, weight, bias = case(50, 16, out=32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        linear(x.requires_grad_(), weight, bias)
    assert sum(kept) == weight.numel()


@pytest.mark.parametrize(
    ('maker', 'family', 'capability', 'narrowest', 'wide'),
    [
        ('AuthenticAMD', 25, 'AVX2', 256, False),
        ('AuthenticAMD', 25, 'AVX512', 1, False),
        ('AuthenticAMD', 26, 'AVX512', 1, True),
        ('AuthenticAMD', 26, 'AVX2', 256, False),
        ('GenuineIntel', 6, 'AVX512', None, False),
        ('AuthenticAMD', 25, 'DEFAULT', None, False),
    ],
)
def test_library_by_processor(maker, family, capability, narrowest, wide):
    facts = f'processor\t: 0\nvendor_id\t: {maker}\ncpu family\t: {family}\nmodel\t\t: 17\n'
    assert narrowest_by_onednn(facts, capability) == narrowest
    assert has_wide_units(facts, capability) == wide
