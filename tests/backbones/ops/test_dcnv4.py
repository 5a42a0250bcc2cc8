import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from backbones import BackboneError
from backbones.ops.cpu import dcnv4 as dcnv4_cpu
from backbones.ops.dcnv4 import dcnv4, implementation, offset_mask_channels, sample
from backbones.ops.triton import dcnv4 as dcnv4_triton
from tests.backbones.ops.dcnv4_oracle import gradients, random_inputs, sampled

SETTING = 'DENSE_MIXERS_CPU'
EXACT = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float64: 1e-12}
PATHS = ['fast', 'reference']


def by_operator(value, offset_mask, grad_out, kernel_size=3, scale=1.0):
    tensors = [tensor.detach().requires_grad_() for tensor in (value, offset_mask)]
    out = dcnv4(*tensors, kernel_size, scale)
    return out.detach(), *torch.autograd.grad(out, tensors, grad_out)


def assert_equal_to_torchvision(value, offset_mask, grad_out, kernel_size=3, scale=1.0):
    out = sampled(value.double(), offset_mask.double(), kernel_size, scale)
    expected = out, *gradients(grad_out, value, offset_mask, kernel_size, scale)
    found = by_operator(value, offset_mask, grad_out, kernel_size, scale)
    for one, truth in zip(found, expected, strict=True):
        assert one.dtype == value.dtype
        largest = truth.abs().max().item() if truth.numel() else 0
        near = EXACT[value.dtype] * max(1, largest)
        torch.testing.assert_close(one.double(), truth, rtol=0, atol=near)


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('dtype', EXACT, ids=str)
@pytest.mark.parametrize(
    ('size', 'kernel_size', 'scale'),
    [
        ((1, 9, 7, 4, 16), 3, 1.0),
        ((2, 5, 40, 3, 5), 3, 0.5),
        ((1, 6, 6, 1, 32), 5, 2.0),
        ((1, 33, 1, 2, 16), 1, 1.0),
        ((1, 1, 1, 2, 16), 3, 2.0),
    ],
)
def test_equal_to_torchvision(monkeypatch, path, size, kernel_size, scale, dtype):
    monkeypatch.setenv(SETTING, path)
    assert_equal_to_torchvision(*random_inputs(size, kernel_size, dtype), kernel_size, scale)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 40),
    heads=st.integers(1, 3),
    reach=st.sampled_from([0.0, 0.3, 5.0, 50.0]),
    scale=st.sampled_from([0.5, 1.0, 2.0]),
    seed=st.integers(0, 1000),
)
def test_any_size_and_offsets(height, width, heads, reach, scale, seed):
    torch.manual_seed(seed)
    inputs = random_inputs((1, height, width, heads, 16), reach=reach)
    assert_equal_to_torchvision(*inputs, scale=scale)


@pytest.mark.parametrize('path', PATHS)
def test_layout_of_offsets_and_weights(monkeypatch, path):
    """Head 1 takes the value at the left, 2 pixels to the right and 1 up, times its weight."""
    monkeypatch.setenv(SETTING, path)
    value = torch.arange(24.0).view(1, 3, 4, 2, 1)
    offset_mask = torch.zeros(1, 3, 4, 56)
    # Point 1 of the undeformed grid is one pixel to the left.
    offset_mask[..., 27 + 2], offset_mask[..., 27 + 3], offset_mask[..., 27 + 18 + 1] = 2, -1, 10
    out = dcnv4(value, offset_mask, 3, 1.0)
    assert not out[..., 0, :].any()
    expected = torch.tensor([[0, 0, 0, 0], [30, 50, 70, 0], [110, 130, 150, 0.0]])
    torch.testing.assert_close(out[0, ..., 1, 0], expected)


@pytest.mark.parametrize('path', PATHS)
def test_padding_is_not_read_and_has_no_gradient(monkeypatch, path):
    monkeypatch.setenv(SETTING, path)
    value, offset_mask, grad_out = random_inputs((1, 6, 5, 3, 16))
    assert offset_mask.shape[-1] == 88
    assert offset_mask[..., 81:].isnan().all()
    out, grad_value, grad_offset_mask = by_operator(value, offset_mask, grad_out)
    assert out.isfinite().all()
    assert grad_value.isfinite().all()
    assert torch.equal(grad_offset_mask[..., 81:], torch.zeros(1, 6, 5, 7))


@pytest.mark.parametrize('far', [1e9, -1e9, 3e38, math.inf, -math.inf, math.nan])
def test_offsets_far_outside_read_no_memory(far):
    value, offset_mask, grad_out = random_inputs((1, 6, 7, 2, 16))
    offset_mask[..., :54].unflatten(-1, (2, 27))[..., :18] = far
    for found in by_operator(value, offset_mask, grad_out):
        assert not found.any()


def test_offsets_at_whole_numbers_have_the_gradient_to_the_right():
    value, offset_mask, grad_out = random_inputs((1, 5, 6, 1, 16), kernel_size=1)
    offset_mask[..., :2], offset_mask[..., 2] = 0, 1
    _, _, gradient = by_operator(value, offset_mask, grad_out, 1, scale=3.0)
    after = torch.nn.functional.pad(value, (0, 0, 0, 0, 0, 1, 0, 1))
    by_x = 3 * (grad_out * (after[:, :-1, 1:] - value)).sum((-1, -2))
    by_y = 3 * (grad_out * (after[:, 1:, :-1] - value)).sum((-1, -2))
    torch.testing.assert_close(gradient[..., :2], torch.stack([by_x, by_y], -1))


@pytest.mark.parametrize('path', PATHS)
def test_empty_batch_and_inputs_that_are_not_contiguous(monkeypatch, path):
    monkeypatch.setenv(SETTING, path)
    found = by_operator(*random_inputs((0, 4, 4, 2, 16)))
    assert [tensor.shape[0] for tensor in found] == [0, 0, 0]
    inputs = random_inputs((2, 6, 9, 2, 16))
    assert_equal_to_torchvision(*(tensor.transpose(1, 2) for tensor in inputs))
    value, offset_mask, grad_out = inputs
    spread = torch.zeros(2, 6, 9, 2, 32)
    spread[..., ::2] = value
    assert_equal_to_torchvision(spread[..., ::2], offset_mask, grad_out)


def test_number_of_threads_changes_nothing():
    inputs = random_inputs((2, 20, 30, 3, 16))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(by_operator(*inputs))
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize('path', PATHS)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_sampled_at_exact_positions(monkeypatch, path, dtype):
    """The map is so wide that half precision cannot represent its coordinates."""
    monkeypatch.setenv(SETTING, path)
    value = torch.arange(600).remainder(7).to(dtype).view(1, 1, 600, 1, 1)
    offset_mask = torch.tensor([-1.0, 0, 1, 0, 0, 0, 0, 0], dtype=dtype).expand(1, 1, 600, 8)
    output = dcnv4(value, offset_mask, 1, 1.0).flatten()
    expected = torch.cat([torch.zeros(1), torch.arange(599).remainder(7).float()])
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=1e-3)


def test_operator_is_well_formed():
    value, offset_mask, _ = random_inputs((1, 4, 5, 8, 4))
    tensors = [tensor.requires_grad_() for tensor in (value, offset_mask)]
    torch.library.opcheck(sample, (*tensors, 3, 0.5))


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_flops(device):
    """Each of 9 samples and each channel takes four products and sums."""
    value, offset_mask, _ = (tensor.to(device) for tensor in random_inputs((2, 4, 5, 3, 16)))
    with FlopCounterMode(display=False) as counter:
        dcnv4(value, offset_mask, 3, 1.0)
    assert counter.get_total_flops() == 2 * 36 * (2 * 4 * 5) * (3 * 16)


def test_implementation_is_chosen_by_device_and_setting(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    assert implementation('cpu', torch.float32) == 'numba'
    assert implementation('cpu', torch.float64) == 'reference'
    assert implementation('xpu', torch.float32) == 'reference'
    assert (implementation('cuda', torch.float32) == 'triton') == dcnv4_triton.available()
    monkeypatch.setenv(SETTING, 'reference')
    assert implementation('cpu', torch.float32) == 'reference'


def test_setting_is_followed(monkeypatch):
    value, offset_mask, _ = random_inputs((1, 4, 5, 2, 16))

    def refuse(*_):
        raise AssertionError('not this one')

    monkeypatch.setattr(dcnv4_cpu, 'forward', refuse)
    monkeypatch.setenv(SETTING, 'reference')
    dcnv4(value, offset_mask, 3, 1.0)
    monkeypatch.setenv(SETTING, 'fast')
    with pytest.raises(AssertionError, match='not this one'):
        dcnv4(value, offset_mask, 3, 1.0)


@pytest.mark.parametrize(('heads', 'channels'), [(1, 32), (4, 112), (8, 216), (10, 272)])
def test_channels_are_a_multiple_of_eight(heads, channels):
    assert offset_mask_channels(heads, 3) == channels


def test_mismatched_shapes_are_rejected():
    value, offset_mask, _ = random_inputs((1, 4, 5, 2, 16))
    for wrong in ((value, offset_mask[:, :3]), (value, offset_mask[..., :54]), (value[0], offset_mask)):
        with pytest.raises(BackboneError, match='do not match; expected'):
            dcnv4(*wrong, 3, 1.0)
