import math
import re

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from backbones.ops.triton import dcnv4 as dcnv4_triton
from backbones.ops.triton import launch_sizes
from evaluation.gpu_check.ahead_of_time import compiled, recorded
from tests.backbones.ops.dcnv4_oracle import gradients, random_inputs, sampled
from tests.backbones.ops.triton.triton_process import call, interpreter
from tests.triton_compiler import skip_unless_compiling

pytestmark = pytest.mark.skipif(not dcnv4_triton.available(), reason='needs Triton')

HALF = (torch.float16, torch.bfloat16)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@pytest.fixture(scope='module')
def interpreted():
    with interpreter() as process:
        yield lambda *arguments: process.submit(call, *arguments).result(timeout=300)


@pytest.fixture(scope='module', params=['interpreter', pytest.param('cuda', marks=needs_gpu)])
def run(request):
    """Call `forward` or `backward` with CPU tensors."""
    if request.param == 'interpreter':
        call_there = request.getfixturevalue('interpreted')
    else:

        def call_there(name, tensors, *others):
            out = call(name, tuple(tensor.cuda() for tensor in tensors), *others)
            return out.cpu() if isinstance(out, torch.Tensor) else tuple(part.cpu() for part in out)

    def run(name, *tensors, kernel_size=3, scale=1.0, deterministic=False, wide_index=False):
        return call_there(f'dcnv4.{name}', tensors, (kernel_size, scale), deterministic, wide_index)

    return run


def assert_near(actual, expected, dtype):
    assert actual.dtype == dtype
    tolerance = torch.finfo(dtype).eps if dtype in HALF else 1e-5
    torch.testing.assert_close(actual.double(), expected.double(), rtol=tolerance, atol=2e-5)


def assert_equal_to_torchvision(run, value, offset_mask, grad_out, kernel_size=3, scale=1.0, **settings):
    how = dict(kernel_size=kernel_size, scale=scale, **settings)
    out = run('forward', value, offset_mask, **how)
    expected = sampled(value.double(), offset_mask.double(), kernel_size, scale)
    assert_near(out, expected, value.dtype)
    found = run('backward', grad_out, value, offset_mask, **how)
    expected = gradients(grad_out, value, offset_mask, kernel_size, scale)
    for one, truth, tensor in zip(found, expected, (value, offset_mask), strict=True):
        assert_near(one, truth, tensor.dtype)


@pytest.mark.parametrize(
    ('size', 'kernel_size', 'scale'),
    [
        ((2, 4, 5, 3, 6), 3, 1.0),
        ((1, 3, 3, 8, 16), 3, 0.5),
        ((1, 2, 2, 5, 17), 3, 2.0),
        ((1, 3, 4, 2, 4), 1, 2.0),
        ((1, 3, 4, 1, 4), 5, 1.0),
    ],
)
def test_equal_to_torchvision(run, size, kernel_size, scale):
    assert_equal_to_torchvision(run, *random_inputs(size, kernel_size), kernel_size, scale)


@pytest.mark.parametrize('dtype', HALF, ids=str)
def test_half_precision(run, dtype):
    assert_equal_to_torchvision(run, *random_inputs((2, 4, 5, 3, 6), dtype=dtype))


@settings(max_examples=6, deadline=None)
@given(
    size=st.tuples(*(st.integers(1, most) for most in (2, 4, 5, 3, 9))),
    reach=st.sampled_from([0.3, 5.0, 50.0]),
    scale=st.sampled_from([0.5, 1.0, 2.0]),
    seed=st.integers(0, 99),
)
def test_any_size(run, size, reach, scale, seed):
    torch.manual_seed(seed)
    assert_equal_to_torchvision(run, *random_inputs(size, reach=reach), scale=scale)


def test_wide_index_and_memory_layout_change_nothing(run):
    inputs = random_inputs((2, 4, 5, 3, 6), kernel_size=1)
    strided = [tensor.transpose(1, 3).contiguous().transpose(1, 3) for tensor in inputs]
    assert_equal_to_torchvision(run, *strided, kernel_size=1, wide_index=True)


@pytest.mark.parametrize('size', [(0, 4, 5, 2, 4), (2, 0, 5, 2, 4), (2, 4, 5, 2, 0)])
def test_nothing_to_sample(run, size):
    value, offset_mask, grad_out = random_inputs(size)
    assert run('forward', value, offset_mask).shape == size
    for deterministic in (False, True):
        found = run('backward', grad_out, value, offset_mask, deterministic=deterministic)
        for gradient, tensor in zip(found, (value, offset_mask), strict=True):
            assert torch.equal(gradient, torch.zeros_like(tensor))


def test_far_outside_is_zero_without_gradient(run):
    value, offset_mask, grad_out = random_inputs((1, 4, 4, 2, 4))
    far = torch.tensor([40.0, -40.0, 1e9, -1e9, 3e38, math.inf, -math.inf, math.nan])
    offsets = offset_mask[..., :54].unflatten(-1, (2, 27))[..., :18]
    offsets.copy_(far[torch.randint(len(far), offsets.shape)])
    assert not run('forward', value, offset_mask).any()
    for gradient in run('backward', grad_out, value, offset_mask):
        assert not gradient.any()


@pytest.mark.parametrize('magnitude', [1e-20, 1.0, 1e10])
def test_deterministic_gradients(run, magnitude):
    """Weights do not sum to one, so the range of integers depends on them too."""
    value, offset_mask, grad_out = random_inputs((1, 4, 5, 3, 6))
    offset_mask[..., :81].unflatten(-1, (3, 27))[..., 18:] *= magnitude
    found = run('backward', grad_out, value, offset_mask, deterministic=True)
    expected = gradients(grad_out, value, offset_mask, 3, 1.0)
    for one, truth in zip(found, expected, strict=True):
        largest = truth.abs().max().item()
        torch.testing.assert_close(one.double(), truth, rtol=1e-5, atol=1e-5 * largest)


def test_deterministic_sums_do_not_overflow(run):
    """All weights of all tokens add up at one pixel, all with the same sign."""
    value, _, grad_out = random_inputs((1, 4, 5, 1, 2), kernel_size=1)
    x, y = 3 - torch.arange(5.0), 2 - torch.arange(4.0)
    offset_mask = torch.zeros(1, 4, 5, 8)
    offset_mask[..., 0], offset_mask[..., 1], offset_mask[..., 2] = x, y[:, None], 100
    grad_out = torch.full_like(grad_out, -3.0)
    found, _ = run('backward', grad_out, value, offset_mask, kernel_size=1, deterministic=True)
    expected = torch.zeros_like(value)
    expected[0, 2, 3] = -3 * 100 * 20
    torch.testing.assert_close(found, expected)


def test_deterministic_gradient_of_non_finite_weights(run):
    value, offset_mask, grad_out = random_inputs((1, 2, 3, 1, 2), kernel_size=1)
    offset_mask[0, 0, 0, 2] = math.inf
    found, _ = run('backward', grad_out, value, offset_mask, kernel_size=1, deterministic=True)
    assert found.isnan().all()


# Compiled


@pytest.fixture
def cache(tmp_path, monkeypatch):
    skip_unless_compiling()
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))


def compiled_for(name, dtype, capability):
    """Compile a kernel for 16 channels and 3x3 points, without a GPU."""
    inputs = random_inputs((1, 3, 4, 2, 16), dtype=dtype)
    value, offset_mask, grad_out = (tensor.to('meta') for tensor in inputs)
    first = [grad_out] if name == 'backward' else []
    (launch,) = recorded(lambda: getattr(dcnv4_triton, name)(*first, value, offset_mask, 3, 1.0))
    return compiled(launch, capability)


@pytest.mark.usefixtures('cache')
def test_compiles_for_older_gpus():
    for name in ('forward', 'backward'):
        assert compiled_for(name, torch.float16, 75).asm['cubin']


@pytest.mark.usefixtures('cache')
def test_deterministic_gradients_are_added_as_integers(monkeypatch):
    monkeypatch.setattr(torch, 'are_deterministic_algorithms_enabled', lambda: True)
    code = compiled_for('backward', torch.float32, 90).asm['ptx']
    assert re.search(r'atom\.[\w.]*add\.u64', code)
    assert not re.search(r'atom\.[\w.]*add\.f32', code)


@pytest.mark.usefixtures('cache')
def test_channels_move_in_wide_vectors():
    code = compiled_for('forward', torch.bfloat16, 90).asm['ptx']
    assert len(re.findall(r'ld\.global\.v4\.b32', code)) >= 3 * 4


@pytest.mark.usefixtures('cache')
@pytest.mark.parametrize('name', ['forward', 'backward'])
def test_wide_index_is_wide_in_every_product(monkeypatch, name):
    monkeypatch.setattr(launch_sizes, 'INT32_MAX', -1)
    code = compiled_for(name, torch.bfloat16, 90).asm['ttir']
    widths = re.findall(r'arith\.muli [^\n]*: (?:tensor<[\dx]*x)?(i\d+)', code)
    assert set(widths) == {'i64'}
