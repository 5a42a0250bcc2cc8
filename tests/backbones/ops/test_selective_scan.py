"""The selective scan compared with a loop over positions in double precision."""

import pytest
import torch

from backbones import BackboneError
from backbones.ops import selective_scan_reference
from backbones.ops.selective_scan import scan, selective_scan
from tests.backbones.ops.scans import assert_near, in_loops, inputs, output_and_gradients

EXACT = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}
# Batch, height, width, D, R, S.
SIZES = [(1, 5, 6, 192, 2, 1), (2, 9, 13, 12, 3, 4), (1, 70, 1, 5, 1, 16), (1, 1, 67, 16, 9, 2)]


@pytest.mark.parametrize('size', SIZES, ids=str)
def test_reference_equals_loops(size):
    tensors = [tensor.double() for tensor in inputs(size)[0]]
    torch.testing.assert_close(selective_scan(*tensors), in_loops(*tensors), rtol=0, atol=1e-10)


def test_gradients_of_the_reference():
    tensors = [tensor.double().requires_grad_() for tensor in inputs((1, 3, 7, 2, 1, 2))[0]]
    assert torch.autograd.gradcheck(selective_scan, tensors)


@pytest.mark.parametrize('dtype', EXACT, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_numba(size, dtype):
    tensors, grad = inputs(size, dtype)
    assert_near(selective_scan(*tensors), in_loops(*tensors), 1e-5)
    truth = output_and_gradients(
        selective_scan_reference.forward, [tensor.double() for tensor in tensors], grad
    )
    found = output_and_gradients(selective_scan, tensors, grad)
    assert found[0].dtype == torch.float32
    for one, other, tensor in zip(found[1:], truth[1:], tensors, strict=True):
        assert one.dtype == tensor.dtype
        assert_near(one, other, EXACT[tensor.dtype])


@pytest.mark.parametrize('bias', [-30.0, 25.0, 60.0])
def test_extreme_steps(bias):
    tensors, grad = inputs((1, 9, 11, 16, 2, 4), bias=bias)
    truth = output_and_gradients(
        selective_scan_reference.forward, [tensor.double() for tensor in tensors], grad
    )
    for function in (selective_scan, selective_scan_reference.forward):
        for one, other in zip(output_and_gradients(function, tensors, grad), truth, strict=True):
            assert one.isfinite().all()
            assert_near(one, other, 2e-5)


def test_number_of_threads_changes_nothing():
    tensors, grad = inputs((2, 9, 11, 64, 2, 1))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(output_and_gradients(selective_scan, tensors, grad))
    finally:
        torch.set_num_threads(threads)
    assert_near(found[0][0], in_loops(*tensors), 1e-5)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_empty_batch_and_inputs_that_are_not_contiguous():
    (u, *others), _ = inputs((2, 4, 5, 16, 2, 1))
    assert selective_scan(u[:0], others[0][:0], *others[1:]).shape == (0, 4, 5, 16)
    strided = u.transpose(1, 3).contiguous().transpose(1, 3)
    assert torch.equal(selective_scan(strided, *others), selective_scan(u, *others))


def test_operator_is_well_formed():
    tensors, _ = inputs((1, 4, 5, 16, 2, 1))
    torch.library.opcheck(scan, tuple(tensor.requires_grad_() for tensor in tensors))


def test_mismatched_shapes_are_rejected():
    (u, projected, *weights), _ = inputs((1, 4, 5, 16, 2, 1))
    with pytest.raises(BackboneError, match='do not match'):
        selective_scan(u, projected[:, :3], *weights)
