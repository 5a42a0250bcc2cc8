from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from backbones.ops import selective_scan_reference as reference
from backbones.ops import selective_scan_sizes
from backbones.ops.fast_paths import fast_path
from backbones.ops.selective_scan import implementation, selective_scan
from backbones.ops.triton import launch_sizes
from backbones.ops.triton import selective_scan as operator
from tests.backbones.ops.scans import assert_near, inputs
from tests.backbones.ops.triton.triton_process import interpreter

pytest.importorskip('triton')
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def scan(tensors, grad, wide_index=False, kept=operator.KEPT_NUMBERS, autocast=False):
    """Return the output and the gradients of all inputs, with chunks of 2; called where Triton runs."""
    limit = -1 if wide_index else launch_sizes.INT32_MAX
    with (
        mock.patch.object(selective_scan_sizes, 'CHUNK', 2),
        mock.patch.object(operator, 'POSITIONS', 2),
        mock.patch.object(operator, 'CHUNKS', 2),
        mock.patch.object(launch_sizes, 'INT32_MAX', limit),
        mock.patch.object(operator, 'KEPT_NUMBERS', kept),
        torch.autocast(grad.device.type, enabled=autocast, dtype=torch.bfloat16),
    ):
        out, states = operator.forward(*tensors)
        return out, *operator.backward(grad, states, *tensors)


@pytest.fixture(scope='module')
def interpreted():
    with interpreter() as process:
        yield lambda *arguments: process.submit(scan, *arguments).result(timeout=300)


@pytest.fixture(scope='module', params=['interpreter', pytest.param('cuda', marks=needs_gpu)])
def run(request):
    """Call `scan` with CPU tensors."""
    if request.param == 'interpreter':
        return request.getfixturevalue('interpreted')

    def on_gpu(tensors, grad, *options):
        found = scan([tensor.cuda() for tensor in tensors], grad.cuda(), *options)
        return tuple(tensor.cpu() for tensor in found)

    return on_gpu


def by_reference(tensors, grad):
    tensors = [tensor.double().requires_grad_() for tensor in tensors]
    out = reference.forward(*tensors)
    return out.detach(), *torch.autograd.grad(out, tensors, grad.double())


def check(found, tensors, grad, tolerance=None):
    """Compare with the reference; gradients are rounded to the dtype of their tensors."""
    exact = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
    assert found[0].dtype == torch.float32
    for one, truth, tensor in zip(found, by_reference(tensors, grad), (grad, *tensors), strict=True):
        assert one.dtype == tensor.dtype
        assert one.shape == tensor.shape
        assert_near(one, truth, tolerance or exact[tensor.dtype])


# Batch, height, width, D, R, S: several chunks, the last one not full; several images and blocks of
# channels; one row; one column; one position.
SIZES = [
    (1, 2, 3, 36, 2, 1),
    (2, 3, 1, 4, 1, 2),
    (1, 3, 2, 8, 1, 3),
    (1, 1, 5, 4, 3, 4),
    (1, 1, 1, 32, 2, 1),
]


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_output_and_gradients(run, size):
    tensors, grad = inputs(size)
    check(run(tensors, grad), tensors, grad)


@needs_gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('size', [(2, 30, 51, 96, 6, 1), (1, 17, 64, 200, 13, 4)], ids=str)
def test_real_sizes_on_gpu(size, dtype):
    tensors, grad = inputs(size, dtype)
    on_gpu = [tensor.cuda().requires_grad_() for tensor in tensors]
    out = selective_scan(*on_gpu)
    found = out.detach(), *torch.autograd.grad(out, on_gpu, grad.cuda())
    check([tensor.cpu() for tensor in found], tensors, grad)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(run, dtype):
    tensors, grad = inputs((1, 1, 3, 8, 2, 1), dtype)
    found = run(tensors, grad)
    check(found, tensors, grad)
    # Only the inputs are rounded, not the computation.
    assert_near(found[0], by_reference(tensors, grad)[0], 1e-5)


@settings(max_examples=3, deadline=None)
@given(
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    dim=st.integers(1, 36),
    rank=st.integers(1, 3),
    states=st.integers(1, 2),
)
def test_any_size(run, height, width, dim, rank, states):
    tensors, grad = inputs((1, height, width, dim, rank, states))
    check(run(tensors, grad), tensors, grad)


@pytest.mark.parametrize('bias', [-30.0, 25.0, 60.0])
def test_extreme_steps(run, bias):
    tensors, grad = inputs((1, 1, 3, 8, 1, 1), bias=bias)
    found = run(tensors, grad)
    assert all(tensor.isfinite().all() for tensor in found)
    check(found, tensors, grad, 2e-5)


def test_wide_index_less_memory_and_autocast_change_nothing(run):
    tensors, grad = inputs((1, 1, 5, 8, 1, 1))
    found = run(tensors, grad)
    for options in ((True,), (False, 1), (False, 1, True)):
        others = run(tensors, grad, *options)
        assert all(torch.equal(one, other) for one, other in zip(found, others, strict=True))


def test_nan_stays_in_its_image(run):
    tensors, grad = inputs((2, 1, 2, 8, 1, 1))
    for tensor in tensors[:2]:
        tensor[0, 0, 1] = torch.nan
    out, grad_u, *_ = run(tensors, grad)
    assert out[0].isnan().all()
    clean = [tensor[1:] for tensor in tensors[:2]]
    expected = by_reference([*clean, *tensors[2:]], grad[1:])
    assert_near(out[1:], expected[0], 1e-5)
    assert_near(grad_u[1:], expected[1], 1e-5)


def test_inputs_that_are_not_contiguous(run):
    (u, *others), grad = inputs((1, 2, 2, 8, 1, 1))
    turned = [x.transpose(1, 3).contiguous().transpose(1, 3) for x in (u, grad)]
    tensors = (turned[0], *others)
    check(run(tensors, turned[1]), tensors, grad)


@pytest.mark.parametrize('size', [(0, 3, 4, 8, 2, 1), (1, 0, 4, 8, 2, 1)], ids=str)
def test_nothing_to_scan(run, size):
    tensors, grad = inputs(size)
    out, *gradients = run(tensors, grad)
    assert out.shape == grad.shape
    for gradient, tensor in zip(gradients, tensors, strict=True):
        assert torch.equal(gradient, torch.zeros_like(tensor))


def test_cuda_takes_this_path(monkeypatch):
    monkeypatch.setenv('DENSE_MIXERS_CUDA', 'fast')
    assert implementation('cuda', torch.float16) == 'triton'
    assert implementation('cuda', torch.float64) == 'reference'
    assert fast_path('cuda', 'selective_scan', 'selective scan') is operator


def test_temporary_memory_is_bounded():
    states = torch.empty(2, 4, 1000, 16, 96, device='meta')
    at_once = operator.chunks_at_once(states)
    assert 1 < at_once < 2000
    assert at_once * selective_scan_sizes.CHUNK * 16 * 96 <= operator.KEPT_NUMBERS
    assert operator.chunks_at_once(states[:, :, :3]) == 6
