"""The CPU's and PyTorch's attention, each compared with loops over queries and keys."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from backbones import BackboneError
from backbones.ops import attention, attention_reference
from backbones.ops.cpu import attention as attention_cpu
from backbones.ops.cpu import halo_gradients as halo_gradients_cpu
from evaluation.models.operator_flops import count_flops

BOTH = pytest.mark.parametrize('module', [attention_cpu, attention_reference])
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1e-1}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def qkv(batch, height, width, heads, dim, dtype=torch.float32):
    """Return three views of one tensor, as from a projection, (B, H, W, heads, D)."""
    return random(batch, height, width, 3, heads, dim).to(dtype).unbind(3)


def weighted(logits, values):
    """Return the softmax of the logits, times values."""
    powers = np.exp(np.array(logits) - max(logits))
    return (powers / powers.sum()) @ np.array(values)


def halo_in_loops(q, k, v, height_rel, width_rel, block, halo):
    q, k, v, height_rel, width_rel = (x.double().numpy() for x in (q, k, v, height_rel, width_rel))
    batch, height, width, heads, dim = q.shape
    window = block + 2 * halo
    rows, columns = -(-height // block) * block, -(-width // block) * block
    out = np.zeros(q.shape)
    for b, y, x, h in itertools.product(*map(range, (batch, height, width, heads))):
        query, top, left = q[b, y, x, h], y // block * block - halo, x // block * block - halo
        logits, values = [], []
        for down, across in itertools.product(range(window), repeat=2):
            i, j = top + down, left + across
            if not (0 <= i < rows and 0 <= j < columns):
                continue
            inside = i < height and j < width
            key = k[b, i, j, h] if inside else np.zeros(dim)
            by_height = query @ height_rel[down - y % block + window - 1]
            by_width = query @ width_rel[across - x % block + window - 1]
            logits.append(query @ key / math.sqrt(dim) + by_height + by_width)
            values.append(v[b, i, j, h] if inside else np.zeros(dim))
        out[b, y, x, h] = weighted(logits, values)
    return torch.from_numpy(out)


def windows_in_loops(q, k, v, bias, size, shift):
    q, k, v, bias = (x.double().numpy() for x in (q, k, v, bias))
    batch, height, width, heads, dim = q.shape
    out = np.zeros(q.shape)

    def window_of(place, length):
        """Return the window in the shifted map, the position in it, and the side of the seam."""
        moved = (place - shift) % length
        return moved // size, moved % size, moved >= length - shift

    for b, h in itertools.product(range(batch), range(heads)):
        for y, x in itertools.product(range(height), range(width)):
            row, column = window_of(y, height), window_of(x, width)
            logits, values = [], []
            for i, j in itertools.product(range(height), range(width)):
                other_row, other_column = window_of(i, height), window_of(j, width)
                if (row[0], column[0]) != (other_row[0], other_column[0]):
                    continue
                place, other = row[1] * size + column[1], other_row[1] * size + other_column[1]
                seam = (row[2], column[2]) != (other_row[2], other_column[2])
                product = q[b, y, x, h] @ k[b, i, j, h] / math.sqrt(dim)
                logits.append(product + bias[h, place, other] - 100 * seam)
                values.append(v[b, i, j, h])
            out[b, y, x, h] = weighted(logits, values)
    return torch.from_numpy(out)


def assert_close(found, expected, dtype=torch.float32):
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE[dtype])


@BOTH
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize(
    ('size', 'block', 'halo'),
    [
        ((1, 14, 9, 2, 8), 7, 3),
        ((2, 5, 16, 1, 20), 7, 3),
        ((1, 6, 7, 2, 16), 3, 2),
        ((1, 4, 4, 1, 8), 2, 0),
    ],
)
def test_halo_attention(module, size, block, halo, dtype):
    q, k, v = qkv(*size, dtype=dtype)
    count = 2 * (block + 2 * halo) - 1
    tables = [random(count, size[-1], seed=seed).to(dtype) for seed in (1, 2)]
    expected = halo_in_loops(q, k, v, *tables, block, halo)
    assert_close(module.halo_attention(q, k, v, *tables, block, halo), expected, dtype)


@BOTH
@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize(
    ('size', 'window', 'shift'),
    [
        ((2, 14, 14, 2, 8), 7, 3),
        ((1, 14, 7, 1, 32), 7, 0),
        ((1, 6, 9, 3, 5), 3, 1),
        ((1, 8, 12, 1, 8), 4, 2),
    ],
)
def test_window_attention(module, size, window, shift, dtype):
    q, k, v = qkv(*size, dtype=dtype)
    bias = random(size[3], window**2, window**2, seed=1)
    expected = windows_in_loops(q, k, v, bias, window, shift)
    assert_close(module.window_attention(q, k, v, bias, window, shift), expected, dtype)


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 3),
    queries=st.integers(1, 70),
    keys=st.integers(1, 200),
    heads=st.integers(1, 3),
    dim=st.sampled_from([5, 32]),
)
def test_global_attention(batch, queries, keys, heads, dim):
    q = random(batch, queries, heads, dim)
    k, v = random(batch, keys, 2, heads, dim, seed=1).unbind(2)
    logits = torch.einsum('bqhd,bkhd->bhqk', q.double(), k.double()) / math.sqrt(dim)
    expected = torch.einsum('bhqk,bkhd->bqhd', logits.softmax(-1), v.double())
    for module in (attention_cpu, attention_reference):
        assert_close(module.global_attention(q, k, v), expected)


def test_large_logits_neither_overflow_nor_lose_the_largest():
    q, k, v = qkv(1, 7, 7, 1, 16)
    expected = windows_in_loops(100 * q, k, v, torch.zeros(1, 49, 49), 7, 0)
    found = attention_cpu.window_attention(100 * q, k, v, torch.zeros(1, 49, 49), 7, 0)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-3)


def test_nan_is_propagated():
    q, k, v = (x.clone() for x in qkv(1, 14, 7, 1, 16))
    k[0, 3, 3] = torch.nan
    found = attention_cpu.window_attention(q, k, v, torch.zeros(1, 49, 49), 7, 0)
    assert found[:, :7].isnan().all()
    assert found[:, 7:].isfinite().all()


def test_operators_are_chosen(monkeypatch):
    calls = []
    for name in ('halo_attention', 'window_attention', 'global_attention'):
        monkeypatch.setattr(
            attention_cpu, name, lambda q, *_, name=name: calls.append(name) or q.clone()
        )
    q, k, v = qkv(1, 7, 7, 1, 16)
    table, bias = torch.zeros(25, 16), torch.zeros(1, 49, 49)

    def all_three(*tensors):
        attention.halo_attention(*tensors, table.to(tensors[0]), table.to(tensors[0]), 7, 3)
        attention.window_attention(*tensors, bias, 7, 0)
        attention.global_attention(*(x.flatten(1, 2).to(torch.bfloat16) for x in tensors))

    all_three(q, k, v)
    assert calls == ['halo_attention', 'window_attention']
    calls.clear()
    with torch.no_grad():
        all_three(q, k, v)
    assert calls == ['halo_attention', 'window_attention', 'global_attention']


def test_tokens_must_be_evenly_spaced():
    """The rows of a crop leave gaps in memory, so PyTorch's attention is used."""
    crop = random(2, 9, 9, 2, 8)[:, :7, :7]
    table = random(25, 8)
    with torch.no_grad():
        found = attention.halo_attention(crop, crop, crop, table, table, 7, 3)
    assert_close(found, halo_in_loops(crop, crop, crop, table, table, 7, 3))


def test_halo_attention_keeps_no_windows_for_the_backward_pass():
    """Autograd saves little more than queries, keys and values; windows are 3.4 times as large."""
    q, k, v = (x.clone().requires_grad_() for x in qkv(1, 28, 28, 2, 16))
    table = random(25, 16).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        attention.halo_attention(q, k, v, table, table, 7, 3)
    assert sum(kept) <= 3 * q.numel() + 2 * table.numel()


def test_gradients_of_halo_attention_agree_with_finite_differences():
    tensors = [x.double().requires_grad_() for x in qkv(1, 3, 4, 1, 2)]
    tables = [random(7, 2, seed=seed).double().requires_grad_() for seed in (1, 2)]
    assert torch.autograd.gradcheck(
        lambda *x: attention.halo_attention(*x, 2, 1), (*tensors, *tables), atol=1e-6
    )


def test_operators_count_as_many_flops_as_pytorchs_attention():
    q, k, v = qkv(1, 7, 14, 2, 16)
    table, bias = random(25, 16), random(2, 49, 49)

    def flops(module):
        counted = []
        for call in (
            lambda: module.halo_attention(q[:, :5], k[:, :5], v[:, :5], table, table, 7, 3),
            lambda: module.window_attention(q, k, v, bias, 7, 3),
            lambda: module.global_attention(*(x.flatten(1, 2).to(torch.bfloat16) for x in (q, k, v))),
        ):
            with torch.no_grad(), count_flops(torch.nn.Identity()) as counter:
                call()
            assert not counter.uncounted
            counted.append(counter.total)
        return counted

    by_operators = flops(attention)
    assert by_operators == flops(attention_reference)
    assert all(by_operators)


@pytest.mark.parametrize(
    'call',
    [
        lambda q: attention.window_attention(q, q[:, :3], q[:, :3], torch.zeros(1, 49, 49), 7, 0),
        lambda q: attention.window_attention(q, q, q, torch.zeros(1, 49, 48), 7, 0),
        lambda q: attention.window_attention(q, q, q, torch.zeros(1, 49, 49), 7, 7),
        lambda q: attention.window_attention(q, q, q, torch.zeros(1, 25, 25), 5, 0),
        lambda q: attention.halo_attention(q, q, q, torch.zeros(3, 16), torch.zeros(25, 16), 7, 3),
        lambda q: attention.global_attention(q[0], q[0, :, :, :, :8], q[0, :, :, :, :8]),
    ],
)
def test_mismatched_shapes_are_rejected(call):
    with torch.no_grad(), pytest.raises(BackboneError, match='do not match'):
        call(random(1, 7, 7, 1, 16))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ('size', 'block', 'halo'),
    [
        ((2, 9, 12, 2, 16), 7, 3),
        ((1, 30, 23, 1, 32), 7, 3),
        ((2, 3, 4, 3, 8), 7, 3),
        ((1, 13, 9, 2, 20), 4, 2),
        ((1, 9, 11, 1, 8), 2, 0),
        ((2, 8, 7, 2, 16), 3, 2),
    ],
)
def test_halo_attention_trains_like_pytorchs_in_double_precision(size, block, halo, dtype):
    """The CPU's own operators are used, also under autocast with half-precision maps.

    In the last case, windows extend too far for the gradient operator, so they are cut out.
    """
    positions = 2 * (block + 2 * halo) - 1
    tables = [random(positions, size[-1], seed=seed).requires_grad_() for seed in (1, 2)]
    maps = [x.clone().requires_grad_() for x in qkv(*size, dtype=dtype)]
    grad = random(*size, seed=3).to(dtype)
    inputs = (*maps, *tables)
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype != torch.float32):
        out = attention.halo_attention(*inputs, block, halo)
    found = out, *torch.autograd.grad(out, inputs, grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    truth = attention_reference.halo_attention(*exact, block, halo)
    expected = truth, *torch.autograd.grad(truth, exact, grad.double())
    for own, tensor, like in zip(found, expected, (grad, *inputs), strict=True):
        assert own.dtype == like.dtype
        atol = (1e-5 if dtype == torch.float32 else 3e-2) * tensor.abs().max().item()
        torch.testing.assert_close(own.double(), tensor, rtol=0, atol=atol)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ('size', 'window', 'shift'),
    [
        ((2, 14, 21, 2, 32), 7, 3),
        ((1, 14, 7, 3, 8), 7, 0),
        ((1, 6, 9, 1, 5), 3, 1),
        ((1, 8, 12, 2, 20), 4, 2),
    ],
)
def test_window_attention_trains_like_pytorchs_in_double_precision(size, window, shift, dtype):
    maps = [x.clone().requires_grad_() for x in qkv(*size, dtype=dtype)]
    bias = random(size[3], window**2, window**2, seed=1).requires_grad_()
    grad, inputs = random(*size, seed=3).to(dtype), (*maps, bias)
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype != torch.float32):
        out = attention.window_attention(*inputs, window, shift)
    found = out, *torch.autograd.grad(out, inputs, grad)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    truth = attention_reference.window_attention(*exact, window, shift)
    expected = truth, *torch.autograd.grad(truth, exact, grad.double())
    for own, tensor, like in zip(found, expected, (grad, *inputs), strict=True):
        assert own.dtype == like.dtype
        atol = (1e-5 if dtype == torch.float32 else 3e-2) * tensor.abs().max().item()
        torch.testing.assert_close(own.double(), tensor, rtol=0, atol=atol)


@pytest.mark.parametrize('kind', ['halo', 'window'])
def test_second_derivatives(kind):
    maps = [x.clone().requires_grad_() for x in qkv(1, 7, 14, 2, 8)]
    if kind == 'halo':
        tables = [random(25, 8, seed=seed).requires_grad_() for seed in (1, 2)]
        call, options, inputs = 'halo_attention', (7, 3), (*maps, *tables)
    else:
        call, options = 'window_attention', (7, 3)
        inputs = (*maps, random(2, 49, 49, seed=1).requires_grad_())
    found = []
    for module, tensors in (
        (attention, inputs),
        (attention_reference, [x.detach().double().requires_grad_() for x in inputs]),
    ):
        out = getattr(module, call)(*tensors, *options)
        (first,) = torch.autograd.grad(out.pow(2).sum(), tensors[0], create_graph=True)
        found.append(torch.autograd.grad(first.pow(2).sum(), tensors))
    for own, truth in zip(*found, strict=True):
        atol = 1e-4 * truth.abs().max().item()
        torch.testing.assert_close(own.double(), truth, rtol=0, atol=atol)


@pytest.mark.parametrize('kind', ['halo', 'window'])
def test_function_transforms(kind):
    q, k, v = qkv(1, 7, 14, 2, 8)
    tables, bias = [random(25, 8, seed=seed) for seed in (1, 2)], random(2, 49, 49, seed=1)

    def total(q):
        if kind == 'halo':
            return attention.halo_attention(q, k, v, *tables, 7, 3).pow(2).sum()
        return attention.window_attention(q, k, v, bias, 7, 3).pow(2).sum()

    leaf = q.clone().requires_grad_()
    total(leaf).backward()
    torch.testing.assert_close(torch.func.grad(total)(q), leaf.grad, rtol=1e-4, atol=1e-4)


def test_gradients_of_halo_attention_do_not_depend_on_the_number_of_threads():
    q, k, v = qkv(1, 30, 16, 2, 16)
    tables = [random(25, 16, seed=seed) for seed in (1, 2)]
    grad = random(1, 30, 16, 2, 16, seed=3)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(halo_gradients_cpu.halo_gradients(grad, q, k, v, *tables, 7, 3))
    finally:
        torch.set_num_threads(threads)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(others, found[0], strict=True))


def test_only_needed_gradients_of_halo_attention():
    q, k, v = (x.clone() for x in qkv(1, 7, 7, 1, 16))
    table = random(25, 16)
    attention.halo_attention(q.requires_grad_(), k, v, table, table, 7, 3).sum().backward()
    assert q.grad.any()
    assert k.grad is None


def test_no_images_give_no_output():
    """As in a batch that lost all its images."""
    q, k, v = qkv(0, 5, 7, 2, 4)
    relative = random(2 * (3 + 2 * 1) - 1, 4)
    for module in (attention, attention_reference):
        assert module.halo_attention(q, k, v, relative, relative, 3, 1).shape == q.shape
