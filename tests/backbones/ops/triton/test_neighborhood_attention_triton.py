import re
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from backbones.ops import neighborhood_attention_reference as reference
from backbones.ops.triton import launch_sizes
from backbones.ops.triton import neighborhood_attention as operator
from evaluation.gpu_check.ahead_of_time import compiled, recorded
from tests.backbones.ops.neighborhoods import attended_in_loops, random_inputs
from tests.backbones.ops.triton.triton_process import interpreter
from tests.triton_compiler import skip_unless_compiling

pytest.importorskip('triton')
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def attend(tensors, kernel_size, dilation, wide_index=False):
    """Return the output and the gradients of q, k, v and rpb; called where Triton runs."""
    *inputs, grad_out = tensors
    limit = -1 if wide_index else launch_sizes.INT32_MAX
    with mock.patch.object(launch_sizes, 'INT32_MAX', limit):
        out, log_sums = operator.forward(*inputs, kernel_size, dilation)
        return out, *operator.backward(grad_out, *inputs, out, log_sums, kernel_size, dilation)


@pytest.fixture(scope='module')
def interpreted():
    with interpreter() as process:
        yield lambda *arguments: process.submit(attend, *arguments).result(timeout=300)


@pytest.fixture(scope='module', params=['interpreter', pytest.param('cuda', marks=needs_gpu)])
def run(request):
    """Call `attend` with CPU tensors."""
    if request.param == 'interpreter':
        return request.getfixturevalue('interpreted')

    def on_gpu(tensors, *options):
        return tuple(x.cpu() for x in attend([x.cuda() for x in tensors], *options))

    return on_gpu


def by_reference(tensors, kernel_size, dilation):
    *inputs, grad_out = (tensor.double() for tensor in tensors)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    out = reference.forward(*inputs, kernel_size, dilation)
    return out.detach(), *torch.autograd.grad(out, inputs, grad_out)


def assert_near(found, expected, tolerance):
    for one, truth in zip(found, expected, strict=True):
        near = tolerance * max(1, truth.abs().max().item())
        torch.testing.assert_close(one.double(), truth, rtol=0, atol=near)


# Several squares; one short side; several blocks of columns; windows wider than a block.
CASES = [
    ((1, 9, 10, 2, 16), 7, 1),
    ((1, 7, 22, 1, 5), 7, 1),
    ((1, 22, 7, 1, 16), 7, 1),
    ((2, 6, 7, 1, 8), 3, 2),
    ((1, 13, 21, 1, 4), 13, 1),
]


@pytest.mark.parametrize(('size', 'kernel_size', 'dilation'), CASES, ids=str)
def test_output_and_gradients(run, size, kernel_size, dilation):
    tensors = random_inputs(size, kernel_size)
    found = run(tensors, kernel_size, dilation)
    assert [x.dtype for x in found] == [torch.float32] * 5
    assert_near(found, by_reference(tensors, kernel_size, dilation), 1e-5)


def test_definition(run):
    tensors = random_inputs((1, 5, 11, 1, 4), 3)
    expected = attended_in_loops(*tensors[:4], 3, 1)
    assert_near(run(tensors, 3, 1)[:1], [expected], 1e-5)


@settings(max_examples=6, deadline=None)
@given(
    more_rows=st.integers(0, 8),
    more_columns=st.integers(0, 20),
    kernel_size=st.sampled_from([3, 5]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    seed=st.integers(0, 99),
)
def test_any_size(run, more_rows, more_columns, kernel_size, dtype, seed):
    size = (1, kernel_size + more_rows, kernel_size + more_columns, 1, 4)
    tensors = random_inputs(size, kernel_size, dtype, seed)
    found = run(tensors, kernel_size, 1)
    assert [x.dtype for x in found] == [dtype] * 4 + [torch.float32]
    tolerance = 1e-5 if dtype == torch.float32 else 4e-3
    assert_near(found, by_reference(tensors, kernel_size, 1), tolerance)


def test_wide_index_and_repeated_calls_change_nothing(run):
    tensors = random_inputs((2, 9, 9, 1, 4), 3)
    found = run(tensors, 3, 1)
    for others in (run(tensors, 3, 1), run(tensors, 3, 1, True)):
        assert all(torch.equal(one, other) for one, other in zip(found, others, strict=True))


def test_inputs_that_are_not_contiguous(run):
    q, k, v, rpb, grad_out = random_inputs((1, 5, 9, 2, 4), 3)
    turned = [x.transpose(1, 2) for x in (q, k.contiguous(), v, rpb, grad_out)]
    assert_near(run(turned, 3, 1), by_reference(turned, 3, 1), 1e-5)


@pytest.mark.parametrize('size', [(0, 4, 5, 2, 4), (2, 4, 5, 0, 4), (2, 4, 5, 2, 0)])
def test_nothing_to_attend_to(run, size):
    tensors = random_inputs(size, 3)
    found = run(tensors, 3, 1)
    assert found[0].shape == size
    for gradient, tensor in zip(found[1:], tensors, strict=False):
        assert torch.equal(gradient, torch.zeros_like(tensor))


def test_slices_of_one_tensor_are_not_copied():
    q, k, v, *_ = random_inputs((2, 4, 5, 2, 4), 3)
    assert all(
        one is other for one, other in zip(operator.evenly_spaced(q, k, v), (q, k, v), strict=True)
    )
    assert operator.evenly_spaced(q, k.contiguous(), v)[0].is_contiguous()


# Compiled


def launches(dtype=torch.bfloat16):
    q, k, v, rpb, grad_out = (x.to('meta') for x in random_inputs((1, 16, 16, 2, 32), 7, dtype))
    log_sums = torch.empty(1, 16, 16, 2, device='meta')
    return recorded(
        lambda: (
            operator.forward(q, k, v, rpb, 7, 1),
            operator.backward(grad_out, q, k, v, rpb, grad_out, log_sums, 7, 1),
        )
    )


@pytest.fixture
def _cache(tmp_path, monkeypatch):
    skip_unless_compiling()
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))


@pytest.mark.usefixtures('_cache')
def test_products_use_tensor_cores():
    products = {'forward': 2, 'backward_queries': 5, 'backward_keys': 4}
    for launch in launches():
        kernel = compiled(launch, 90)
        assert len(re.findall('tt.dot ', kernel.asm['ttir'])) == products[launch.kernel.__name__]
        assert 'mma' in kernel.asm['ptx']
        # All sums over tokens are in registers.
        assert 'atom' not in kernel.asm['ptx']


@pytest.mark.parametrize(('allowed', 'precision'), [(False, 'ieee'), (True, 'tf32')])
def test_float32_is_as_exact_as_in_pytorch(allowed, precision):
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        found = {launch.arguments['PRECISION'] for launch in launches(torch.float32)}
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert found == {precision}
