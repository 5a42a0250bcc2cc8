"""GELU and its gradient in one pass against PyTorch in double precision."""

import pytest
import torch
import torch.nn.functional as F

from backbones.ops import gelu

EXTREMES = [0.0, -0.0, 1e-30, 5.0, -5.0, 13.0, -13.0, 14.0, -14.0, 1e10, -1e10]


@pytest.fixture(params=['numba', 'PyTorch'], autouse=True)
def way(request, monkeypatch):
    if request.param == 'PyTorch':
        monkeypatch.setenv('DENSE_MIXERS_CPU', 'reference')
    return request.param


def exact(x, grad):
    x = x.double().requires_grad_()
    out = F.gelu(x)
    return out.detach(), torch.autograd.grad(out, x, grad.double())[0]


def check(x, grad):
    for found, expected in zip(gelu.gelu_and_gradient(x, grad), exact(x, grad), strict=True):
        assert found.shape == x.shape
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize('count', [1, 7, 16, 2**14 - 1, 2**14 + 5, 100_000])
def test_every_place_of_any_number(count):
    generator = torch.Generator().manual_seed(count)
    check(torch.randn(count, generator=generator) * 3, torch.randn(count, generator=generator))


def test_from_one_end_to_the_other():
    check(torch.linspace(-20, 20, 400_001), torch.ones(400_001))


def test_extremes():
    x = torch.tensor(EXTREMES)
    check(x, torch.ones_like(x))


def test_what_is_not_finite_stays_so(way):
    if way == 'PyTorch':
        pytest.skip('with AVX-512 PyTorch makes NaN of infinity')
    x = torch.tensor([float('nan'), float('inf'), 1.0])
    out, grad = gelu.gelu_and_gradient(x, torch.tensor([1.0, 1.0, float('nan')]))
    assert out.isnan().tolist() == [True, False, False]
    assert grad[0].isnan()
    assert grad[2].isnan()
    assert out[1] == float('inf')


def test_strided():
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).t()
    check(x, torch.ones(6, 5).t())


def test_nothing():
    check(torch.zeros(0, 4), torch.zeros(0, 4))
