import importlib.util
import itertools
import math
import re
import sys
from functools import partial

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import backbones.ops
from backbones.ops.triton import dcnv3 as dcnv3_triton
from backbones.ops.triton import launch_sizes, sampling
from evaluation.gpu_check.ahead_of_time import compiled, recorded
from tests.backbones.ops.triton.triton_process import call, interpreter
from tests.triton_compiler import skip_unless_compiling

pytestmark = pytest.mark.skipif(not dcnv3_triton.available(), reason='needs Triton')

HALF = (torch.float16, torch.bfloat16)
DTYPES = (torch.float32, *HALF)
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

    def run(name, *tensors, kernel_size=3, deterministic=False, wide_index=False):
        return call_there(f'dcnv3.{name}', tensors, (kernel_size,), deterministic, wide_index)

    return run


def random_inputs(size, kernel_size=3, dtype=torch.float32, point_dtype=None, reach=1.5):
    """Return random value, offsets, logits and grad_out for a value of size (B, H, W, heads, D).

    Offsets are odd multiples of 1/8: every dtype represents them exactly, and none is an integer, where
    gradients jump.
    """
    points = (*size[:4], kernel_size**2)
    offsets = (torch.randn(*points, 2) * reach * 4).round() / 4 + 1 / 8
    value, grad_out = torch.randn(size, dtype=dtype), torch.randn(size, dtype=dtype)
    point_dtype = point_dtype or dtype
    return value, offsets.to(point_dtype), torch.randn(points, dtype=point_dtype), grad_out


def in_numpy(*tensors):
    return [tensor.detach().double().numpy() for tensor in tensors]


def sampled_in_loops(value, offsets, logits, kernel_size):
    """Follow the definition, one token, head, point and corner at a time."""
    value, offsets, logits = in_numpy(value, offsets, logits)
    batch, height, width, heads, _ = value.shape
    out = np.zeros(value.shape)
    for b, y, x, h in itertools.product(range(batch), range(height), range(width), range(heads)):
        powers = [math.exp(score - max(logits[b, y, x, h])) for score in logits[b, y, x, h]]
        point = 0
        for column in range(-(kernel_size // 2), kernel_size // 2 + 1):
            for line in range(-(kernel_size // 2), kernel_size // 2 + 1):
                across = x + column + offsets[b, y, x, h, point, 0]
                down = y + line + offsets[b, y, x, h, point, 1]
                weight = powers[point] / sum(powers)
                out[b, y, x, h] += weight * bilinear_in_loops(value[b, :, :, h], across, down)
                point += 1
    return torch.from_numpy(out)


def bilinear_in_loops(image, x, y):
    """Interpolate an image (H, W, D); zero outside."""
    total = np.zeros(image.shape[2])
    for line in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= line < image.shape[0] and 0 <= column < image.shape[1]:
                total += (1 - abs(x - column)) * (1 - abs(y - line)) * image[line, column]
    return total


def sampled_by_tents(value, offsets, logits, kernel_size):
    """Follow the definition in a different form: weight every pixel by distance, without corners."""
    height, width = value.shape[1:3]
    reach = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    x = torch.arange(width)[:, None, None] + reach.repeat_interleave(kernel_size) + offsets[..., 0]
    y = torch.arange(height)[:, None, None, None] + reach.repeat(kernel_size) + offsets[..., 1]
    near_x = (1 - (x[..., None] - torch.arange(width)).abs()).clamp(min=0)
    near_y = (1 - (y[..., None] - torch.arange(height)).abs()).clamp(min=0)
    samples = torch.einsum('bijhkx,bijhky,byxhd->bijhkd', near_x, near_y, value)
    return (logits.softmax(-1)[..., None] * samples).sum(-2)


def gradients_by_tents(grad_out, value, offsets, logits, kernel_size):
    inputs = [tensor.double().requires_grad_() for tensor in (value, offsets, logits)]
    out = sampled_by_tents(*inputs, kernel_size)
    return torch.autograd.grad(out, inputs, grad_out.double())


def assert_near(actual, expected, dtype, equal_nan=False):
    """Compare with the tolerance of a float32 sum that is finally rounded to `dtype`."""
    assert actual.dtype == dtype
    tolerance = torch.finfo(dtype).eps if dtype in HALF else 1e-5
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=tolerance, atol=1e-5, equal_nan=equal_nan
    )


def assert_gradients_near(actual, expected, inputs):
    for one, other, tensor in zip(actual, expected, inputs, strict=True):
        assert one.shape == tensor.shape
        assert_near(one, other, tensor.dtype)


# Comparison with the definition

# Several programs, several groups of heads, both at once; programs that are not full; padded channels.
SIZES = [(2, 4, 5, 3, 6), (1, 3, 3, 4, 16), (1, 3, 3, 2, 64), (1, 2, 2, 5, 17), (1, 1, 9, 2, 1)]
CASES = [
    *((size, torch.float32) for size in SIZES),
    *((SIZES[0], dtype) for dtype in HALF),
]


def test_oracles_agree():
    value, offsets, logits, _ = random_inputs((2, 4, 5, 3, 6), dtype=torch.float64)
    expected = sampled_in_loops(value, offsets, logits, 3)
    torch.testing.assert_close(sampled_by_tents(value, offsets, logits, 3), expected)


@pytest.mark.parametrize(('size', 'dtype'), CASES, ids=str)
def test_output(run, size, dtype):
    *inputs, _ = random_inputs(size, dtype=dtype)
    assert_near(run('forward', *inputs), sampled_in_loops(*inputs, 3), dtype)


@pytest.mark.parametrize(('size', 'dtype'), CASES, ids=str)
def test_gradients(run, size, dtype):
    *inputs, grad_out = random_inputs(size, dtype=dtype)
    expected = gradients_by_tents(grad_out, *inputs, 3)
    assert_gradients_near(run('backward', grad_out, *inputs), expected, inputs)


@pytest.mark.parametrize('kernel_size', [1, 5])
def test_kernel_sizes(run, kernel_size):
    *inputs, grad_out = random_inputs((1, 3, 4, 2, 4), kernel_size)
    out = run('forward', *inputs, kernel_size=kernel_size)
    gradients = run('backward', grad_out, *inputs, kernel_size=kernel_size)
    assert_near(out, sampled_in_loops(*inputs, kernel_size), torch.float32)
    assert_gradients_near(gradients, gradients_by_tents(grad_out, *inputs, kernel_size), inputs)


@settings(max_examples=6, deadline=None)
@given(
    size=st.tuples(*(st.integers(1, most) for most in (2, 4, 5, 3, 9))),
    kernel_size=st.sampled_from([1, 3]),
    dtype=st.sampled_from(DTYPES),
    point_dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 99),
)
def test_any_size_and_mixture_of_dtypes(run, size, kernel_size, dtype, point_dtype, seed):
    torch.manual_seed(seed)
    *inputs, grad_out = random_inputs(size, kernel_size, dtype, point_dtype)
    out = run('forward', *inputs, kernel_size=kernel_size)
    gradients = run('backward', grad_out, *inputs, kernel_size=kernel_size)
    assert_near(out, sampled_in_loops(*inputs, kernel_size), dtype)
    assert_gradients_near(gradients, gradients_by_tents(grad_out, *inputs, kernel_size), inputs)


def test_memory_layout_does_not_matter(run):
    *inputs, grad_out = random_inputs((2, 4, 3, 2, 4), kernel_size=1)
    strided = [tensor.transpose(1, 3).contiguous().transpose(1, 3) for tensor in inputs]
    grad_strided = torch.zeros(2, 4, 3, 2, 8)[..., ::2].copy_(grad_out)
    assert not any(tensor.is_contiguous() for tensor in (*strided, grad_strided))
    run = partial(run, kernel_size=1)
    assert torch.equal(run('forward', *strided), run('forward', *inputs))
    expected = run('backward', grad_out, *inputs)
    for one, other in zip(run('backward', grad_strided, *strided), expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('size', [(0, 4, 5, 2, 4), (2, 0, 5, 2, 4), (2, 4, 5, 0, 4), (2, 4, 5, 2, 0)])
def test_nothing_to_sample(run, size):
    *inputs, grad_out = random_inputs(size)
    assert run('forward', *inputs).shape == size
    for deterministic in (False, True):
        gradients = run('backward', grad_out, *inputs, deterministic=deterministic)
        for gradient, tensor in zip(gradients, inputs, strict=True):
            assert torch.equal(gradient, torch.zeros_like(tensor))


# Positions


def test_undeformed_grid_is_read_down_the_columns(run):
    """In image k, only point k has weight."""
    value = torch.arange(1.0, 26).view(1, 5, 5, 1, 1).repeat(9, 1, 1, 1, 1)
    logits = torch.full((9, 5, 5, 1, 9), -math.inf)
    logits[range(9), ..., range(9)] = 0
    out = run('forward', value, torch.zeros(9, 5, 5, 1, 9, 2), logits)
    columns_first = value[0, 1:4, 1:4, 0, 0].T.flatten()
    assert torch.equal(out[:, 2, 2, 0, 0], columns_first)


def test_gradient_at_pixels_is_the_one_to_the_right_and_down(run):
    *inputs, grad_out = random_inputs((1, 3, 4, 1, 3))
    value, offsets, logits = inputs
    offsets.copy_(torch.randint(-4, 5, offsets.shape))
    _, actual, _ = run('backward', grad_out, *inputs)
    value, offsets, logits = (tensor.double() for tensor in inputs)
    step = 2**-10
    before = sampled_by_tents(value, offsets, logits, 3)
    for point, axis in itertools.product(range(9), range(2)):
        moved = offsets.clone()
        moved[..., point, axis] += step
        rise = (sampled_by_tents(value, moved, logits, 3) - before) / step
        assert_near(actual[..., point, axis], (rise * grad_out).sum(-1), torch.float32)


def test_far_outside_is_zero_without_gradient(run):
    *inputs, grad_out = random_inputs((2, 4, 4, 2, 4))
    value, offsets, logits = inputs
    far = torch.tensor([40.0, -40.0, 1e9, -1e9, 3e38, math.inf, -math.inf, math.nan])
    far = far[torch.randint(len(far), offsets.shape)]
    offsets.copy_(torch.where(torch.rand(offsets.shape) < 0.3, far, offsets))
    near = offsets.nan_to_num(nan=40.0).clamp(-40, 40)
    assert_near(run('forward', *inputs), sampled_in_loops(value, near, logits, 3), torch.float32)
    expected = gradients_by_tents(grad_out, value, near, logits, 3)
    assert_gradients_near(run('backward', grad_out, *inputs), expected, inputs)


def test_first_and_last_position_next_to_the_map(run):
    value = torch.tensor([5.0, 7.0]).view(1, 1, 2, 1, 1)
    logits = torch.zeros(1, 1, 2, 1, 1)
    for position, output, slope in [(-1, 0, 5), (-1 - 2**-20, 0, 0), (1, 7, -7), (2, 0, 0)]:
        offsets = torch.zeros(1, 1, 2, 1, 1, 2)
        offsets[..., 0] = position - torch.arange(2.0).view(2, 1, 1)
        out = run('forward', value, offsets, logits, kernel_size=1)
        _, gradient, _ = run('backward', torch.ones_like(out), value, offsets, logits, kernel_size=1)
        assert out.flatten().tolist() == [output] * 2
        assert gradient[..., 0].flatten().tolist() == [slope] * 2


def test_non_finite_values_only_affect_their_samples(run):
    *inputs, _ = random_inputs((2, 5, 6, 2, 3), reach=0.5)
    inputs[0][0, 0, 0, 0] = math.nan
    inputs[0][1, 4, 5, 1] = math.inf
    expected = sampled_in_loops(*inputs, 3)
    assert 0 < expected.isfinite().sum() < expected.numel()
    assert_near(run('forward', *inputs), expected, torch.float32, equal_nan=True)


def test_large_logits(run):
    *inputs, grad_out = random_inputs((1, 3, 4, 2, 4))
    inputs[2].mul_(1e4)
    assert_near(run('forward', *inputs), sampled_in_loops(*inputs, 3), torch.float32)
    expected = gradients_by_tents(grad_out, *inputs, 3)
    assert_gradients_near(run('backward', grad_out, *inputs), expected, inputs)


# Large maps


def test_wide_index_changes_nothing(run):
    *inputs, grad_out = random_inputs((2, 4, 5, 3, 6), kernel_size=1)
    run = partial(run, kernel_size=1)
    assert torch.equal(run('forward', *inputs, wide_index=True), run('forward', *inputs))
    wide = run('backward', grad_out, *inputs, wide_index=True)
    for one, other in zip(wide, run('backward', grad_out, *inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_wide_index_from_two_to_the_31_elements():
    def on_meta(*shape):
        return torch.empty(shape, device='meta', dtype=torch.bfloat16)

    assert not launch_sizes.needs_wide_index(on_meta(2**31 - 1), on_meta(5), on_meta(0, 2**33))
    assert launch_sizes.needs_wide_index(on_meta(5), on_meta(2**31))
    # A view of every third number of a row.
    assert launch_sizes.needs_wide_index(on_meta(2**15, 3 * 2**15)[:, ::3])
    assert not launch_sizes.needs_wide_index(on_meta(2**14, 3 * 2**15)[:, ::3])


@needs_gpu
def test_more_than_two_to_the_31_elements():
    if torch.cuda.mem_get_info()[0] < 16 * 2**30:
        pytest.skip('needs 16 GiB on the GPU')
    value = torch.zeros(1, 2, 2**20 + 1, 1, 1024, dtype=torch.bfloat16, device='cuda')
    value[:, :, -1] = torch.randn(1, 2, 1, 1024, device='cuda')
    offsets = torch.zeros(*value.shape[:4], 1, 2, device='cuda')
    offsets[:, 0, ..., 1] = 1
    out = dcnv3_triton.forward(value, offsets, offsets[..., 0], 1)
    assert torch.equal(out, value[:, 1:].expand_as(value))


# Determinism


def on_a_coarse_grid(size):
    """Return inputs whose coordinates and weights need no rounding, so that a mirror image is exact."""
    value, _, logits, grad_out = random_inputs(size)
    offsets = torch.randint(-16, 17, (*logits.shape, 2)) / 8
    return value, offsets, torch.zeros_like(logits), grad_out


def mirrored(value, offsets, logits, grad_out):
    """Mirror the inputs: reverse the tokens of each line and the columns of points."""
    offsets = offsets.flip(2).unflatten(4, (3, 3)).flip(4).flatten(4, 5) * torch.tensor([-1, 1])
    return value.flip(2), offsets, logits.flip(2), grad_out.flip(2)


def test_deterministic_gradient_does_not_depend_on_the_order_of_sums(run):
    inputs = on_a_coarse_grid((1, 4, 6, 2, 5))
    backward = partial(run, 'backward', deterministic=True)
    gradient, *_ = backward(inputs[3], *inputs[:3])
    image = mirrored(*inputs)
    from_behind, *_ = backward(image[3], *image[:3])
    assert torch.equal(from_behind.flip(2), gradient)


@pytest.mark.parametrize(
    ('dtype', 'scale'), [(torch.float32, 1e-30), (torch.bfloat16, 1e4), (torch.float16, 1.0)], ids=str
)
def test_deterministic_gradients(run, dtype, scale):
    *inputs, grad_out = random_inputs((1, 4, 5, 3, 6), dtype=dtype)
    grad_out *= scale
    actual = run('backward', grad_out, *inputs, deterministic=True)
    expected = gradients_by_tents(grad_out, *inputs, 3)
    for one, other, tensor in zip(actual, expected, inputs, strict=True):
        assert one.dtype == tensor.dtype
        tolerance = torch.finfo(dtype).eps if dtype in HALF else 1e-5
        torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=1e-5 * scale)


def test_deterministic_gradient_of_zero(run):
    *inputs, grad_out = random_inputs((1, 2, 3, 1, 2))
    gradient, *_ = run('backward', torch.zeros_like(grad_out), *inputs, deterministic=True)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize('bad', [math.inf, -math.inf, math.nan])
def test_deterministic_gradient_of_non_finite_values(run, bad):
    *inputs, grad_out = random_inputs((1, 2, 3, 1, 2))
    grad_out[0, 1, 1, 0, 0] = bad
    gradient, *_ = run('backward', grad_out, *inputs, deterministic=True)
    assert gradient.isnan().all()


def test_sums_of_integers_do_not_overflow(run):
    value = torch.ones(1, 4, 5, 1, 2)
    to_one_pixel = torch.stack(
        torch.meshgrid(3 - torch.arange(5.0), 2 - torch.arange(4.0), indexing='xy'), dim=-1
    )
    offsets = to_one_pixel.view(1, 4, 5, 1, 1, 2)
    grad_out = torch.full_like(value, -3.0)
    gradient, *_ = run(
        'backward', grad_out, value, offsets, offsets[..., 0], kernel_size=1, deterministic=True
    )
    expected = torch.zeros_like(value)
    expected[0, 2, 3] = -60
    torch.testing.assert_close(gradient, expected)


@needs_gpu
def test_deterministic_on_a_gpu():
    inputs = [tensor.cuda() for tensor in random_inputs((2, 40, 60, 4, 16))]
    arguments = ('dcnv3.backward', (inputs[3], *inputs[:3]), (3,), True)
    for one, other in zip(call(*arguments), call(*arguments), strict=True):
        assert torch.equal(one, other)


# Sizes of programs


@pytest.mark.parametrize('element_size', [2, 4, 8])
@pytest.mark.parametrize('padded_dim', [2**i for i in range(14)])
def test_rows_a_program(padded_dim, element_size):
    rows = sampling.rows_a_program(padded_dim, element_size)
    assert rows in [2**i for i in range(7)]
    if 1 < rows < 64:
        assert rows * padded_dim * element_size == 128 * 16


@pytest.mark.parametrize(
    ('heads', 'row_bytes', 'group'),
    [(4, 32, 4), (56, 32, 4), (10, 32, 5), (7, 32, 7), (2, 32, 2), (8, 64, 2), (6, 256, 1), (9, 6, 9)],
)
def test_head_group(heads, row_bytes, group):
    assert sampling.head_group(heads, row_bytes) == group


# Compiled


@pytest.fixture
def cache(tmp_path, monkeypatch):
    skip_unless_compiling()
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))


def compiled_for(name, dtype, capability):
    """Compile a kernel for 16 channels and 3x3 points, without a GPU."""
    *inputs, grad_out = (tensor.to('meta') for tensor in random_inputs((1, 3, 4, 2, 16), dtype=dtype))
    first = [grad_out] if name == 'backward' else []
    (launch,) = recorded(lambda: getattr(dcnv3_triton, name)(*first, *inputs, 3))
    return compiled(launch, capability)


@pytest.mark.usefixtures('cache')
def test_compiles_for_older_gpus():
    """Check what the interpreter does not: types, shapes and the instructions of a GPU."""
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
    """Each thread reads the corners of a run of points 16 bytes at a time."""
    code = compiled_for('forward', torch.bfloat16, 90).asm['ptx']
    assert len(re.findall(r'ld\.global\.v4\.b32', code)) >= 3 * 4


@pytest.mark.usefixtures('cache')
@pytest.mark.parametrize('name', ['forward', 'backward'])
def test_wide_index_is_wide_in_every_product(monkeypatch, name):
    monkeypatch.setattr(launch_sizes, 'INT32_MAX', -1)
    code = compiled_for(name, torch.bfloat16, 90).asm['ttir']
    widths = re.findall(r'arith\.muli [^\n]*: (?:tensor<[\dx]*x)?(i\d+)', code)
    assert set(widths) == {'i64'}


# Without Triton


def test_module_imports_without_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, 'triton', None)
    monkeypatch.delitem(sys.modules, 'backbones.ops.triton.dcnv3_kernels', raising=False)
    monkeypatch.delattr(backbones.ops.triton, 'dcnv3_kernels', raising=False)
    spec = importlib.util.spec_from_file_location('imported_again', dcnv3_triton.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.available() is False
