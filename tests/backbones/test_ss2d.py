import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from backbones import MIXERS, BackboneError
from tests.backbones.ops.scans import in_loops

SelectiveScan2D = MIXERS['ss2d']


def mixer(dim=10, **options):
    torch.manual_seed(0)
    return SelectiveScan2D(dim, 0, **options)


def by_definition(built, x):
    """Project, convolve, scan in loops, normalize and project again, in NumPy."""
    weights = {name: p.detach().double().numpy() for name, p in built.named_parameters()}
    height, width = x.shape[1:3]
    u = x.numpy() @ weights['in_proj.weight'].T
    reach = weights['conv2d.weight'].shape[-1] // 2
    padded = np.pad(u, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    u = weights.get('conv2d.bias', 0) + sum(
        padded[:, i : i + height, j : j + width] * weights['conv2d.weight'][:, 0, i, j]
        for i in range(2 * reach + 1)
        for j in range(2 * reach + 1)
    )
    u = u / (1 + np.exp(-u))
    projected = np.einsum('bhwd,kjd->bhwkj', u, weights['x_proj_weight'])
    names = ('dt_projs_weight', 'dt_projs_bias', 'A_logs', 'Ds')
    out = in_loops(*map(torch.from_numpy, (u, projected, *(weights[name] for name in names)))).numpy()
    out = out - out.mean(-1, keepdims=True)
    out = out / np.sqrt((out**2).mean(-1, keepdims=True) + 1e-5)
    out = out * weights['out_norm.weight'] + weights['out_norm.bias']
    return torch.from_numpy(out @ weights['out_proj.weight'].T)


def assert_definition(built, batch, height, width):
    x = torch.randn(batch, height, width, built.in_proj.in_features)
    torch.testing.assert_close(built(x).double(), by_definition(built, x.double()), rtol=0, atol=2e-5)


@pytest.mark.parametrize('choice', ['fast', 'reference'])
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'ssm_ratio': 2.0, 'd_state': 4},
        {'ssm_ratio': 0.55, 'dt_rank': 3},
        {'d_conv': 5, 'conv_bias': True},
    ],
    ids=str,
)
def test_definition(monkeypatch, choice, options):
    monkeypatch.setenv('DENSE_MIXERS_CPU', choice)
    assert_definition(mixer(**options), 2, 5, 7)


@settings(max_examples=8, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    dim=st.sampled_from([1, 7, 33]),
    ratio=st.sampled_from([1.0, 1.5, 2.0]),
    states=st.integers(1, 3),
)
def test_any_size(height, width, dim, ratio, states):
    assert_definition(mixer(dim, ssm_ratio=ratio, d_state=states), 1, height, width)


def test_shapes_of_parameters():
    built = mixer(40, ssm_ratio=2.0, d_state=4)
    assert {name: tuple(p.shape) for name, p in built.named_parameters()} == {
        'in_proj.weight': (80, 40),
        'conv2d.weight': (80, 1, 3, 3),
        'x_proj_weight': (4, 3 + 8, 80),
        'dt_projs_weight': (4, 80, 3),
        'dt_projs_bias': (4, 80),
        'A_logs': (320, 4),
        'Ds': (320,),
        'out_norm.weight': (80,),
        'out_norm.bias': (80,),
        'out_proj.weight': (40, 80),
    }


def test_initialization():
    built = mixer(64, d_state=3)
    steps = torch.nn.functional.softplus(built.dt_projs_bias)
    assert 1e-3 * (1 - 1e-4) <= steps.min() < 2e-3
    assert 5e-2 < steps.max() <= 1e-1 * (1 + 1e-4)
    torch.testing.assert_close(built.A_logs.exp(), torch.tensor([1.0, 2, 3]).expand(256, 3))
    assert torch.equal(built.Ds, torch.ones(256))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'ssm_ratio': 0.01}, 'ssm_ratio=0.01 leaves no channels of 10; choose a larger ratio'),
        ({'dt_rank': 0}, "dt_rank=0: choose 'auto' or a positive integer"),
        ({'dt_rank': 'full'}, "dt_rank='full': choose 'auto' or a positive integer"),
        ({'d_state': 0}, 'd_state=0: choose a positive integer'),
        ({'d_conv': 2}, 'd_conv'),
    ],
    ids=str,
)
def test_bad_options_are_rejected(options, message):
    with pytest.raises(BackboneError, match=message):
        mixer(**options)


@pytest.mark.parametrize('size', [(6, 7), (1, 1)], ids=str)
def test_compiled_and_exported(size):
    built, x = mixer(d_state=2).eval(), torch.randn(1, *size, 10)
    expected = built(x)
    compiled = torch.compile(built, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(compiled(x), expected)
    torch.testing.assert_close(torch.export.export(built, (x,)).module()(x), expected)


def test_gradients_when_compiled():
    built, x = mixer(d_state=2), torch.randn(1, 5, 4, 10, requires_grad=True)
    compiled = torch.compile(built, fullgraph=True, backend='aot_eager')
    tensors = (x, *built.parameters())
    found, expected = (torch.autograd.grad(f(x).square().sum(), tensors) for f in (compiled, built))
    torch.testing.assert_close(found, expected)


def test_flops_on_meta_equal_those_on_the_cpu():
    counted = []
    for device in ('cpu', 'meta'):
        built = mixer(16, ssm_ratio=2.0, d_state=2).to(device)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            built(torch.randn(1, 5, 7, 16, device=device))
        counted.append(counter.get_total_flops())
    dim, rank, states = 32, 1, 2
    layers = 2 * 16 * dim + 9 * dim + 4 * dim * (rank + 2 * states)
    assert counted == [2 * 35 * (layers + 4 * dim * (4 * states + 1 + rank))] * 2


@pytest.mark.parametrize('value', [torch.nan, torch.inf], ids=str)
def test_values_that_are_not_finite_stay_in_their_image(value):
    built, x = mixer(), torch.randn(2, 9, 11, 10)
    expected = built(x)[1]
    x[0, 4, 5] = value
    x.requires_grad_()
    out = built(x)
    assert out[0].isnan().all()
    torch.testing.assert_close(out[1], expected)
    (grad,) = torch.autograd.grad(out[1].sum(), x)
    assert grad[1].isfinite().all()
