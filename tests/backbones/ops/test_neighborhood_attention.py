import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from backbones import BackboneError
from backbones.ops import neighborhood_attention_reference as reference
from backbones.ops.cpu import neighborhood_attention as on_cpu
from backbones.ops.neighborhood_attention import attend, implementation, neighborhood_attention
from backbones.ops.triton import neighborhood_attention as in_triton
from tests.backbones.ops.neighborhoods import attended_in_loops, random_inputs

SETTING = 'DENSE_MIXERS_CPU'
EXACT = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def by_reference(*tensors, kernel_size, dilation):
    """Return the output and the gradients of q, k, v and rpb in double precision."""
    *inputs, grad_out = (tensor.double() for tensor in tensors)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    out = reference.forward(*inputs, kernel_size, dilation)
    return out.detach(), *torch.autograd.grad(out, inputs, grad_out)


def by_operator(*tensors, kernel_size, dilation):
    *inputs, grad_out = tensors
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    out = neighborhood_attention(*inputs, kernel_size, dilation)
    return out.detach(), *torch.autograd.grad(out, inputs, grad_out)


def assert_equal_to_reference(tensors, kernel_size, dilation=1):
    options = dict(kernel_size=kernel_size, dilation=dilation)
    expected, found = by_reference(*tensors, **options), by_operator(*tensors, **options)
    dtypes = [tensors[0].dtype] * 4 + [torch.float32]
    for one, truth, dtype in zip(found, expected, dtypes, strict=True):
        assert one.dtype == dtype
        largest = truth.abs().max().item()
        near = EXACT[tensors[0].dtype] * max(1, largest)
        torch.testing.assert_close(one.double(), truth, rtol=0, atol=near)


# Definition

# Maps as small as a window, odd sizes, one short side, and a dilation that does not divide the map.
CASES = [
    ((2, 7, 7, 1, 32), 7, 1),
    ((1, 9, 24, 2, 32), 7, 1),
    ((1, 23, 15, 1, 32), 7, 2),
    ((1, 3, 20, 2, 5), 3, 1),
    ((1, 11, 13, 1, 5), 3, 3),
]
every_case = pytest.mark.parametrize(('size', 'kernel_size', 'dilation'), CASES, ids=str)


@every_case
@pytest.mark.parametrize('choice', ['fast', 'reference'])
def test_definition(monkeypatch, choice, size, kernel_size, dilation):
    monkeypatch.setenv(SETTING, choice)
    *inputs, _ = random_inputs(size, kernel_size)
    expected = attended_in_loops(*inputs, kernel_size, dilation)
    found = neighborhood_attention(*inputs, kernel_size, dilation)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('choice', ['fast', 'reference'])
def test_bias_is_by_key_minus_query(monkeypatch, choice):
    """With a bias for one offset only, every query copies the key there, if it is in its window."""
    monkeypatch.setenv(SETTING, choice)
    v = torch.arange(30.0).view(1, 5, 6, 1, 1).expand(1, 5, 6, 1, 5)
    rpb = torch.zeros(1, 5, 5)
    rpb[0, 2 + 1, 2 - 1] = 1000
    out = neighborhood_attention(torch.zeros_like(v), torch.zeros_like(v), v, rpb, 3)[0, :, :, 0, 0]
    torch.testing.assert_close(out[:4, 1:], v[0, 1:, :5, 0, 0], rtol=0, atol=1e-4)
    # In the lower left corner, all nine neighbors have the same bias.
    assert out[4, 0].item() == pytest.approx(v[0, 2:, :3, 0, 0].mean().item(), rel=1e-5)


def test_gradients_of_the_reference():
    tensors = random_inputs((1, 4, 7, 2, 2), 3, torch.float64)
    inputs = [tensor.double().requires_grad_() for tensor in tensors[:4]]
    assert torch.autograd.gradcheck(lambda *x: neighborhood_attention(*x, 3, 1), inputs)


# The CPU's operator


@every_case
@pytest.mark.parametrize('dtype', EXACT, ids=str)
def test_numba_equals_the_reference(size, kernel_size, dilation, dtype):
    assert_equal_to_reference(random_inputs(size, kernel_size, dtype), kernel_size, dilation)


@settings(max_examples=30, deadline=None)
@given(
    kernel_size=st.sampled_from([3, 7]),
    dilation=st.integers(1, 3),
    more_rows=st.integers(0, 40),
    more_columns=st.integers(0, 40),
    heads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_numba_on_any_size(kernel_size, dilation, more_rows, more_columns, heads, seed):
    side, dim = kernel_size * dilation, {3: 5, 7: 32}[kernel_size]
    size = (1, side + more_rows, side + more_columns, heads, dim)
    assert_equal_to_reference(random_inputs(size, kernel_size, seed=seed), kernel_size, dilation)


@pytest.mark.parametrize('size', [(1, 70, 10, 1, 32), (1, 7, 150, 1, 32), (2, 67, 85, 1, 32)])
def test_numba_on_maps_of_several_parts(size):
    assert_equal_to_reference(random_inputs(size, 7), 7)


def test_large_logits():
    """Logits of several hundred are rounded to about 1e-5, and neither sums nor gradients overflow."""
    q, k, v, rpb, grad_out = random_inputs((1, 9, 20, 1, 5), 3)
    tensors, options = (100 * q, k, v, rpb, grad_out), dict(kernel_size=3, dilation=1)
    expected, found = by_reference(*tensors, **options), by_operator(*tensors, **options)
    for one, truth in zip(found, expected, strict=True):
        near = 2e-4 * truth.abs().max().item()
        torch.testing.assert_close(one.double(), truth, rtol=0, atol=near)


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_only_neighbors_of_a_bad_value_are_bad(bad):
    q, k, v, rpb, _ = random_inputs((1, 20, 40, 1, 5), 3)
    for place in ((0, 2), (9, 17), (19, 39)):
        values = v.clone()
        values[(0, *place)] = bad
        out = neighborhood_attention(q, k, values, rpb, 3)
        bad_queries = ~out.isfinite().all(-1)[0, :, :, 0]
        expected = torch.zeros(20, 40, dtype=torch.bool)
        rows, columns = (
            (reference.neighbors(length, 3, 1, 'cpu') == spot).any(1)
            for length, spot in zip((20, 40), place, strict=True)
        )
        expected = rows[:, None] & columns
        assert torch.equal(bad_queries, expected)


def test_empty_batch_and_inputs_that_are_not_contiguous():
    empty = random_inputs((0, 4, 4, 2, 5), 3)
    out, *gradients = by_operator(*empty, kernel_size=3, dilation=1)
    assert out.shape == (0, 4, 4, 2, 5)
    assert not gradients[-1].any()
    q, k, v, rpb, grad_out = random_inputs((2, 6, 9, 2, 5), 3)
    turned = [x.transpose(1, 2) for x in (q, k, v, rpb, grad_out)]
    assert_equal_to_reference(turned, 3)
    wide = torch.zeros(2, 6, 9, 2, 10)
    wide[..., ::2] = q
    expanded = grad_out[:, :1, :1].expand(2, 6, 9, 2, 5)
    assert_equal_to_reference((wide[..., ::2], k.contiguous(), v, rpb, expanded), 3)


def test_number_of_threads_changes_nothing():
    tensors = random_inputs((2, 70, 150, 2, 5), 3)
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(by_operator(*tensors, kernel_size=3, dilation=1))
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize('choice', ['fast', 'reference'])
def test_no_neighborhoods_are_kept_for_the_backward_pass(monkeypatch, choice):
    monkeypatch.setenv(SETTING, choice)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    *inputs, _ = random_inputs((1, 14, 14, 2, 32), 7)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = neighborhood_attention(*inputs, 7)
    # Queries, keys, values, output and sums; the reference also keeps logits, weights and partial sums.
    limit = {'fast': 5, 'reference': 16}[choice]
    assert sum(kept.values()) < limit * out.nbytes


# The operator


def test_operator_is_well_formed():
    *tensors, _ = random_inputs((1, 4, 5, 2, 5), 3)
    torch.library.opcheck(attend, (*(tensor.requires_grad_() for tensor in tensors), 3, 1))


class Attention(torch.nn.Module):
    def forward(self, q, k, v, rpb):
        return neighborhood_attention(q, k, v, rpb, 3, 1) * 2


def test_operator_is_exported_and_compiled_as_one():
    *tensors, _ = random_inputs((2, 4, 5, 2, 5), 3)
    expected = Attention()(*tensors)
    exported = torch.export.export(Attention(), tuple(tensors))
    assert 'dense_mixers.neighborhood_attention' in exported.graph_module.code
    assert torch.equal(exported.module()(*tensors), expected)
    compiled = torch.compile(Attention(), fullgraph=True, backend='aot_eager')
    assert torch.equal(compiled(*tensors), expected)


@pytest.mark.parametrize(
    ('choice', 'device'),
    [('fast', 'cpu'), ('fast', 'meta'), ('reference', 'cpu'), ('reference', 'meta')],
)
def test_flops(monkeypatch, choice, device):
    monkeypatch.setenv(SETTING, choice)
    *tensors, _ = (tensor.to(device) for tensor in random_inputs((2, 6, 9, 2, 5), 3))
    with FlopCounterMode(display=False) as counter:
        neighborhood_attention(*tensors, 3)
    multiply_adds = 2 * (2 * 6 * 9) * 3**2 * (2 * 5)
    assert counter.get_total_flops() == 2 * multiply_adds


def test_implementation_is_chosen_by_device_and_setting(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    assert implementation('cpu', torch.float32) == 'numba'
    assert implementation('cpu', torch.float64) == 'reference'
    assert implementation('xpu', torch.float32) == 'reference'
    assert implementation('cuda', torch.float32) in ('triton', 'reference')
    assert in_triton.SIDE * in_triton.LINES >= in_triton.SMALLEST_SIDE
    monkeypatch.setenv(SETTING, 'reference')
    assert implementation('cpu', torch.float32) == 'reference'


def test_setting_is_followed(monkeypatch):
    *tensors, _ = random_inputs((1, 4, 5, 2, 5), 3)

    def refuse(*_):
        raise AssertionError('not this one')

    monkeypatch.setattr(on_cpu, 'forward', refuse)
    monkeypatch.setenv(SETTING, 'reference')
    neighborhood_attention(*tensors, 3)
    monkeypatch.setenv(SETTING, 'fast')
    with pytest.raises(AssertionError, match='not this one'):
        neighborhood_attention(*tensors, 3)


def test_bad_arguments_are_rejected():
    q, k, v, rpb, _ = random_inputs((1, 5, 6, 2, 5), 3)
    for wrong in ((q[:, 1:], k, v, rpb), (q, k, v, rpb[:1]), (q[0], k[0], v[0], rpb)):
        with pytest.raises(BackboneError, match='do not match; expected'):
            neighborhood_attention(*wrong, 3)
    with pytest.raises(BackboneError, match=r'5x6 tokens; pad it to at least .* = 6 on both sides'):
        neighborhood_attention(q, k, v, rpb, 3, 2)
    for kernel_size, dilation in ((2, 1), (-1, 1), (3, 0)):
        with pytest.raises(BackboneError, match='choose an odd kernel_size'):
            neighborhood_attention(q, k, v, rpb, kernel_size, dilation)
