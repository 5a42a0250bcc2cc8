"""Triton kernels of large depthwise convolutions, with Triton's interpreter or on a GPU."""

from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings

from backbones.ops.triton import depthwise as depthwise_triton
from backbones.ops.triton import launch_sizes
from tests.backbones.ops.triton.triton_process import interpreter

pytestmark = pytest.mark.skipif(not depthwise_triton.available(), reason='needs Triton')

HALF = (torch.float16, torch.bfloat16)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def call(name, arguments, changes):
    """Call `forward` or `weight_gradient` with some settings of the module, or INT32_MAX, changed."""
    changes = {'WARPS': 4, **changes}
    limit = changes.pop('INT32_MAX', launch_sizes.INT32_MAX)
    with (
        mock.patch.multiple(depthwise_triton, **changes),
        mock.patch.object(launch_sizes, 'INT32_MAX', limit),
    ):
        return getattr(depthwise_triton, name)(*arguments)


@pytest.fixture(scope='module')
def interpreted():
    with interpreter() as process:
        yield lambda *arguments: process.submit(call, *arguments).result(timeout=300)


@pytest.fixture(scope='module', params=['interpreter', pytest.param('cuda', marks=needs_gpu)])
def run(request):
    """Call `forward` or `weight_gradient` with CPU tensors."""
    if request.param == 'interpreter':
        call_there = request.getfixturevalue('interpreted')
    else:

        def call_there(name, arguments, changes):
            moved = [x.cuda() if isinstance(x, torch.Tensor) else x for x in arguments]
            return call(name, moved, changes).cpu()

    return lambda name, *arguments, **changes: call_there(name, arguments, changes)


def random(*shape, dtype=torch.float32):
    return torch.randn(shape, dtype=dtype)


def by_pytorch(x, weight, bias):
    x, weight = x.double().permute(0, 3, 1, 2), weight.double()
    bias = None if bias is None else bias.double()
    out = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))
    return out.permute(0, 2, 3, 1)


def gradient_by_pytorch(x, grad, side):
    weight = torch.zeros(x.shape[3], 1, side, side, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(by_pytorch(x, weight, None), weight, grad.double())[0]


def assert_near(found, exact, dtype):
    assert found.dtype == dtype
    tolerance = torch.finfo(dtype).eps if dtype in HALF else 2e-6
    bound = tolerance * exact.abs().max().item()
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=bound)


# Rows and columns that do not fill a tile; maps smaller than the kernel; several blocks of channels.
SMALL = {'COLUMNS': 4, 'CHANNELS': 4, 'STRIP': 3}
SIZES = [((2, 5, 6, 3), 3), ((1, 3, 9, 8), 7), ((1, 1, 1, 1), 5), ((1, 9, 2, 6), 5)]


@pytest.mark.parametrize(('size', 'side'), SIZES, ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, *HALF], ids=str)
def test_output(run, size, side, dtype):
    x, weight, bias = random(*size, dtype=dtype), random(size[3], 1, side, side), random(size[3])
    assert_near(run('forward', x, weight, bias, **SMALL), by_pytorch(x, weight, bias), dtype)


@pytest.mark.parametrize(('size', 'side'), SIZES, ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, *HALF], ids=str)
def test_weight_gradient(run, size, side, dtype):
    x, grad = random(*size, dtype=dtype), random(*size, dtype=dtype)
    found = run('weight_gradient', x, grad, side, **SMALL)
    assert_near(found, gradient_by_pytorch(x, grad, side), torch.float32)


def test_sizes_of_tiles_in_use(run):
    x, weight, grad = random(1, 3, 40, 33), random(33, 1, 3, 3), random(1, 3, 40, 33)
    assert_near(run('forward', x, weight, None), by_pytorch(x, weight, None), torch.float32)
    expected = gradient_by_pytorch(x, grad, 3)
    assert_near(run('weight_gradient', x, grad, 3), expected, torch.float32)


@settings(max_examples=6, deadline=None)
@given(
    size=st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)),
    side=st.sampled_from([1, 3, 5]),
    seed=st.integers(0, 99),
)
def test_any_size(run, size, side, seed):
    torch.manual_seed(seed)
    x, weight, grad = random(*size), random(size[3], 1, side, side), random(*size)
    assert_near(run('forward', x, weight, None, **SMALL), by_pytorch(x, weight, None), torch.float32)
    expected = gradient_by_pytorch(x, grad, side)
    assert_near(run('weight_gradient', x, grad, side, **SMALL), expected, torch.float32)


def test_memory_layout_does_not_matter(run):
    x, weight, grad = random(2, 4, 3, 4), random(4, 1, 3, 3), random(2, 4, 3, 4)
    strided = [tensor.transpose(1, 3).contiguous().transpose(1, 3) for tensor in (x, grad)]
    assert torch.equal(run('forward', strided[0], weight, None), run('forward', x, weight, None))
    expected = run('weight_gradient', x, grad, 3)
    assert torch.equal(run('weight_gradient', *strided, 3), expected)


def test_wide_index_changes_nothing(run):
    x, weight, grad = random(2, 4, 5, 3), random(3, 1, 3, 3), random(2, 4, 5, 3)
    wide = SMALL | {'INT32_MAX': -1}
    assert torch.equal(run('forward', x, weight, None, **wide), run('forward', x, weight, None, **SMALL))
    expected = run('weight_gradient', x, grad, 3, **SMALL)
    assert torch.equal(run('weight_gradient', x, grad, 3, **wide), expected)


def test_non_finite_pixels_only_reach_their_neighborhood(run):
    """Also the rows that are computed together with it, four at a time."""
    x, weight = random(1, 9, 8, 2), random(2, 1, 3, 3)
    x[0, 0, 0, 0], x[0, 8, 7, 1] = torch.nan, torch.inf
    found = run('forward', x, weight, None, **SMALL).isfinite()
    expected = torch.ones(1, 9, 8, 2, dtype=torch.bool)
    expected[0, :4, :2, 0] = expected[0, 4:, 6:, 1] = False
    assert torch.equal(found, expected)


@needs_gpu
def test_the_operator_on_a_gpu():
    from backbones.ops.depthwise import depthwise_convolution

    tensors = [random(2, 40, 50, 64), random(64, 1, 31, 31), random(64)]
    moved = [tensor.cuda().requires_grad_() for tensor in tensors]
    exact = [tensor.double().requires_grad_() for tensor in tensors]
    out, truth = depthwise_convolution(*moved), by_pytorch(*exact)
    assert_near(out.cpu(), truth, torch.float32)
    grad = random(*out.shape)
    gradients = torch.autograd.grad(out, moved, grad.cuda())
    for one, other in zip(gradients, torch.autograd.grad(truth, exact, grad.double()), strict=True):
        assert_near(one.cpu(), other, torch.float32)
