import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from backbones import BackboneError
from backbones.ops import dcnv3_reference
from backbones.ops.cpu import dcnv3 as dcnv3_cpu
from backbones.ops.dcnv3 import dcnv3, implementation, sample
from backbones.ops.triton import dcnv3 as dcnv3_triton

SETTING = 'DENSE_MIXERS_CPU'
EXACT = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def inputs(size, kernel_size=3, dtype=torch.float32, reach=1.0, seed=0):
    """Return random value, offsets, logits and output gradient."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    points = (*size[:4], kernel_size**2)
    # Avoid whole numbers, where gradients jump and rounding decides which side counts.
    offsets = (random(*points, 2) * reach * 4).round() / 4 + 1 / 8
    return random(*size), offsets, random(*points), random(*size)


def by_reference(value, offsets, logits, grad_out, kernel_size):
    """Return the output and gradients in double precision."""
    tensors = [tensor.double().requires_grad_() for tensor in (value, offsets, logits)]
    out = dcnv3_reference.forward(*tensors, kernel_size)
    return out.detach(), *torch.autograd.grad(out, tensors, grad_out.double())


def by_operator(value, offsets, logits, grad_out, kernel_size):
    tensors = [tensor.detach().requires_grad_() for tensor in (value, offsets, logits)]
    out = dcnv3(*tensors, kernel_size)
    return out.detach(), *torch.autograd.grad(out, tensors, grad_out)


def assert_equal_to_reference(tensors, kernel_size=3):
    expected = by_reference(*tensors, kernel_size)
    tolerance = EXACT[tensors[0].dtype]
    for found, truth in zip(by_operator(*tensors, kernel_size), expected, strict=True):
        assert found.dtype == tensors[0].dtype
        largest = truth.abs().max().item() if truth.numel() else 0
        torch.testing.assert_close(found.double(), truth, rtol=0, atol=tolerance * max(1, largest))


@pytest.mark.parametrize('dtype', EXACT)
@pytest.mark.parametrize(
    ('size', 'kernel_size'),
    [((1, 9, 7, 2, 16), 3), ((2, 5, 40, 3, 5), 3), ((1, 6, 6, 1, 32), 5), ((1, 33, 1, 2, 16), 1)],
)
def test_numba_equals_the_reference(size, kernel_size, dtype):
    assert_equal_to_reference(inputs(size, kernel_size, dtype), kernel_size)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 40),
    heads=st.integers(1, 3),
    reach=st.sampled_from([0.0, 0.3, 5.0, 50.0]),
    seed=st.integers(0, 1000),
)
def test_numba_on_any_size_and_offsets(height, width, heads, reach, seed):
    assert_equal_to_reference(inputs((1, height, width, heads, 16), reach=reach, seed=seed))


def test_offsets_at_whole_numbers_have_the_gradient_to_the_right():
    value, offsets, logits, grad_out = inputs((1, 5, 6, 1, 16), kernel_size=1)
    _, _, gradient, _ = by_operator(value, torch.zeros_like(offsets), logits, grad_out, 1)
    after = torch.nn.functional.pad(value, (0, 0, 0, 0, 0, 1, 0, 1))
    by_x = (grad_out * (after[:, :-1, 1:] - value)).sum(-1)
    by_y = (grad_out * (after[:, 1:, :-1] - value)).sum(-1)
    torch.testing.assert_close(gradient[..., 0, :], torch.stack([by_x, by_y], -1))


@pytest.mark.parametrize('far', [1e9, -1e9, 3e38, float('inf'), float('-inf'), float('nan')])
def test_offsets_far_outside_read_no_memory(far):
    value, offsets, logits, grad_out = inputs((1, 6, 7, 2, 16))
    out, *gradients = by_operator(value, torch.full_like(offsets, far), logits, grad_out, 3)
    assert not out.any()
    assert not any(gradient.any() for gradient in gradients)


def test_weights_of_large_logits_sum_to_one():
    value, offsets, logits, _ = inputs((1, 40, 3, 1, 16))
    logits = logits * 1000
    expected = dcnv3_reference.forward(value.double(), offsets.double(), logits.double(), 3)
    torch.testing.assert_close(dcnv3(value, offsets, logits, 3).double(), expected, rtol=0, atol=1e-5)


def test_empty_batch_and_inputs_that_are_not_contiguous():
    assert dcnv3(*inputs((0, 4, 4, 2, 16))[:3], 3).shape == (0, 4, 4, 2, 16)
    value, offsets, logits, grad_out = inputs((2, 6, 9, 2, 16))
    turned = (value.transpose(1, 2), offsets.transpose(1, 2), logits.transpose(1, 2))
    assert_equal_to_reference((*turned, grad_out.transpose(1, 2)))
    padded = torch.zeros(2, 6, 9, 2, 32)
    padded[..., ::2] = value
    assert_equal_to_reference((padded[..., ::2], offsets, logits, grad_out))


def test_number_of_threads_changes_nothing():
    tensors = inputs((2, 20, 30, 3, 16))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(by_operator(*tensors, 3))
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_sampled_at_exact_positions(dtype):
    """The map is so wide that half precision cannot represent its coordinates."""
    value = torch.arange(600).remainder(7).to(dtype).view(1, 1, 600, 1, 1)
    offsets = torch.tensor([-1.0, 0.0], dtype=dtype).expand(1, 1, 600, 1, 1, 2)
    output = dcnv3(value, offsets, torch.ones(1, 1, 600, 1, 1, dtype=dtype), 1).flatten()
    expected = torch.cat([torch.zeros(1), torch.arange(599).remainder(7).float()])
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize('choice', ['reference', 'fast'])
def test_points_run_down_the_columns(monkeypatch, choice):
    """With all weight on point 1 of the 3x3 grid, the output is the token to the left."""
    monkeypatch.setenv(SETTING, choice)
    value = torch.arange(12.0).view(1, 3, 4, 1, 1)
    logits = torch.full((1, 3, 4, 1, 9), -1e4)
    logits[..., 1] = 0
    expected = torch.tensor([[0, 0, 1, 2], [0, 4, 5, 6], [0, 8, 9, 10]])
    output = dcnv3(value, torch.zeros(1, 3, 4, 1, 9, 2), logits, 3)
    torch.testing.assert_close(output[0, :, :, 0, 0], expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize('choice', ['reference', 'fast'])
def test_offsets_are_x_then_y_in_tokens(monkeypatch, choice):
    monkeypatch.setenv(SETTING, choice)
    value = torch.arange(12.0).view(1, 3, 4, 1, 1)
    offsets = torch.tensor([1.0, 2.0]).expand(1, 3, 4, 1, 1, 2)
    output = dcnv3(value, offsets, torch.ones(1, 3, 4, 1, 1), 1)
    expected = torch.tensor([[9, 10, 11, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(output[0, :, :, 0, 0], expected.float(), rtol=0, atol=1e-5)


def test_operator_is_well_formed():
    value, offsets, logits, _ = inputs((1, 4, 5, 2, 16))
    tensors = [tensor.requires_grad_() for tensor in (value, offsets, logits)]
    torch.library.opcheck(sample, (*tensors, 3))


class Sampling(torch.nn.Module):
    def forward(self, value, offsets, logits):
        return dcnv3(value, offsets, logits, 3) * 2


def test_operator_is_exported_and_compiled_as_one():
    value, offsets, logits, _ = inputs((2, 4, 5, 2, 16))
    expected = Sampling()(value, offsets, logits)
    exported = torch.export.export(Sampling(), (value, offsets, logits))
    assert 'dense_mixers.dcnv3' in exported.graph_module.code
    assert torch.equal(exported.module()(value, offsets, logits), expected)
    compiled = torch.compile(Sampling(), fullgraph=True, backend='aot_eager')
    assert torch.equal(compiled(value, offsets, logits), expected)


def test_implementation_is_chosen_by_device_and_setting(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    assert implementation('cpu', torch.float32) == 'numba'
    assert implementation('cpu', torch.float64) == 'reference'
    assert implementation('xpu', torch.float32) == 'reference'
    assert (implementation('cuda', torch.float32) == 'triton') == dcnv3_triton.available()
    monkeypatch.setenv(SETTING, 'reference')
    assert implementation('cpu', torch.float32) == 'reference'


def test_setting_is_followed(monkeypatch):
    tensors = inputs((1, 4, 5, 2, 16))[:3]

    def refuse(*_):
        raise AssertionError('not this one')

    monkeypatch.setattr(dcnv3_cpu, 'forward', refuse)
    monkeypatch.setenv(SETTING, 'reference')
    dcnv3(*tensors, 3)
    monkeypatch.setenv(SETTING, 'fast')
    with pytest.raises(AssertionError, match='not this one'):
        dcnv3(*tensors, 3)


def test_mismatched_shapes_are_rejected():
    value, offsets, logits, _ = inputs((1, 4, 5, 2, 16))
    for wrong in ((value, offsets[:, :3], logits), (value, offsets, logits[..., :8]), (value[0],) * 3):
        with pytest.raises(BackboneError, match='do not match; expected'):
            dcnv3(*wrong, 3)
