"""Linear attention, focal modulation and agent attention compared with loops that follow the papers."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from backbones import MIXERS, BackboneError
from backbones.ops.fast_paths import fast_path
from backbones.ops.linear_attention import linear_attention, rotation_tables

BATCH, HEADS = 2, 2
sides = st.integers(1, 9)
few = settings(max_examples=20, deadline=None)
MIXERS_HERE = {
    'linear_attention': {'num_heads': HEADS},
    'focal': {},
    'agent': {'num_heads': HEADS, 'agent_num': 9, 'bias_grid': 5},
}
every_mixer = pytest.mark.parametrize('name', MIXERS_HERE)


def build(name, dim, dtype=torch.float64, **options):
    """Return a mixer with random parameters, and the parameters as arrays."""
    torch.manual_seed(0)  # the same for every example of hypothesis, so that failures are reproducible
    mixer = MIXERS[name](dim, 0, **options).to(dtype)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return mixer, {n: p.detach().double().numpy() for n, p in mixer.named_parameters()}


def tokens(height, width, dim, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, height, width, dim, generator=generator, dtype=torch.float64).to(dtype)


def assert_equal_to_oracle(mixer, x, oracle, tolerance=1e-9):
    expected = np.stack([oracle(sample) for sample in x.double().numpy()])
    output = mixer(x).detach()
    assert output.shape == x.shape
    near = tolerance * max(1, np.abs(expected).max())
    np.testing.assert_allclose(output.double().numpy(), expected, rtol=0, atol=near)


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def gelu(vector):
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in vector])


def project(x, p, name):
    return x @ p[f'{name}.weight'].T + p.get(f'{name}.bias', 0)


def depthwise(x, weight):
    """Correlate each channel of (H, W, C) with its own kernel, (C, 1, K, K); zero outside."""
    reach, out = weight.shape[-1] // 2, np.zeros_like(x)
    for row, column in np.ndindex(*x.shape[:2]):
        for i, j in np.ndindex(*weight.shape[2:]):
            y, z = row + i - reach, column + j - reach
            if 0 <= y < x.shape[0] and 0 <= z < x.shape[1]:
                out[row, column] += weight[:, 0, i, j] * x[y, z]
    return out


# Linear attention


def turned(vector, row, column):
    """Turn the pairs of channels of a token."""
    quarter, out = len(vector) // 4, vector.copy()
    for j in range(2 * quarter):
        angle = row * 10000 ** (-j / quarter) if j < quarter else column * 10000 ** (1 - j / quarter)
        real, imaginary = vector[2 * j : 2 * j + 2]
        out[2 * j] = real * math.cos(angle) - imaginary * math.sin(angle)
        out[2 * j + 1] = real * math.sin(angle) + imaginary * math.cos(angle)
    return out


def linear_attention_oracle(x, p, heads, rope, lepe):
    height, width, dim = x.shape
    qk = project(x, p, 'qk')
    qk = np.where(qk > 0, qk + 1, np.exp(qk))
    q, k = qk[..., :dim], qk[..., dim:]
    places = [*np.ndindex(height, width)]
    to_q = {here: turned(q[here], *here) if rope else q[here] for here in places}
    to_k = {here: turned(k[here], *here) if rope else k[here] for here in places}
    out = np.zeros_like(x)
    for h in range(heads):
        part = slice(h * dim // heads, (h + 1) * dim // heads)
        for here in places:
            total = sum((to_q[here][part] @ to_k[j][part]) * x[j][part] for j in places) / len(places)
            out[here][part] = total / (q[here][part] @ k[..., part].mean((0, 1)) + 1e-6)
    return out + depthwise(x, p['lepe.weight']) + p['lepe.bias'] if lepe else out


@few
@given(
    height=sides,
    width=sides,
    channels=st.sampled_from([(4, 1), (8, 2), (12, 4), (12, 3), (24, 2)]),
    rope=st.booleans(),
    lepe=st.booleans(),
    qkv_bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_linear_attention(height, width, channels, rope, lepe, qkv_bias, dtype):
    """Heads of 3 channels cut the pairs that are turned."""
    dim, heads = channels
    options = {'rope': rope, 'lepe': lepe, 'qkv_bias': qkv_bias}
    mixer, p = build('linear_attention', dim, dtype, num_heads=heads, **options)
    assert ('qk.bias' in p, 'lepe.weight' in p) == (qkv_bias, lepe)
    assert_equal_to_oracle(
        mixer,
        tokens(height, width, dim, dtype),
        lambda x: linear_attention_oracle(x, p, heads, rope, lepe),
        1e-9 if dtype == torch.float64 else 2e-5,
    )


def test_linear_attention_without_turning_takes_any_channels():
    mixer, p = build('linear_attention', 6, torch.float32, num_heads=2, rope=False)
    x = tokens(3, 5, 6, torch.float32)
    assert_equal_to_oracle(mixer, x, lambda x: linear_attention_oracle(x, p, 2, False, True), 2e-5)


def test_first_head_sees_rows_and_second_head_columns():
    down, across = rotation_tables(5, 3, 8, torch.device('cpu'), torch.float32)
    assert down.shape == (2, 5, 4)
    assert across.shape == (2, 3, 4)
    angles = torch.tensor([0.0, 1.0, 2.0])
    assert torch.equal(across[0, :, 0], angles.cos())
    assert torch.equal(across[1, :, 0], -angles.sin())
    torch.testing.assert_close(across[1, :, 3], (angles / 100).sin())


def arguments(height, width, dim, dtype=torch.float32, turn=True, batch=2):
    qk = torch.randn(batch, height, width, 2 * dim, generator=torch.Generator().manual_seed(2))
    v = torch.randn(batch, height, width, dim, generator=torch.Generator().manual_seed(3))
    tables = rotation_tables(height, width, dim, torch.device('cpu'), dtype) if turn else (None, None)
    return qk.to(dtype), v.to(dtype), *tables


def gradients(qk, v, down, across, heads):
    inputs = qk.detach().requires_grad_(), v.detach().requires_grad_()
    out = linear_attention(*inputs, down, across, heads)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out.dtype)
    return out, *torch.autograd.grad(out, inputs, grad)


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    channels=st.sampled_from([(4, 1), (8, 1), (8, 2), (40, 2), (96, 1), (64, 2), (64, 16)]),
    turn=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_gradients_of_compiled_linear_attention(size, channels, turn, dtype):
    """The compiled operator has the gradients of plain PyTorch in double precision."""
    if fast_path('cpu', 'linear_attention', 'linear attention') is None:
        pytest.skip('numba is missing')
    (batch, height, width), (dim, heads) = size, channels
    qk, v, down, across = arguments(height, width, dim, dtype, turn, batch)
    exact = [x if x is None else x.double() for x in (qk, v, down, across)]
    tolerance = 1e-5 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps
    pairs = zip(gradients(qk, v, down, across, heads), gradients(*exact, heads), strict=True)
    for found, truth in pairs:
        assert found.dtype == dtype
        assert (found.double() - truth).abs().max() < tolerance * max(1, truth.abs().max())


def test_double_precision_gradients_of_linear_attention():
    qk, v, *tables = arguments(2, 3, 4, torch.float64)
    inputs = qk.requires_grad_(), v.requires_grad_()
    assert torch.autograd.gradcheck(lambda *x: linear_attention(*x, *tables, 2), inputs)


def test_threads_do_not_change_linear_attention():
    found = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(gradients(*arguments(5, 9, 8), 2))
    torch.set_num_threads(before)
    for one, several in zip(*found, strict=True):
        assert torch.equal(one, several)


def test_strided_tokens_in_linear_attention():
    qk, v, *tables = arguments(4, 5, 8)
    wide = torch.stack([v, v], -1)[..., 0]
    high = qk.transpose(1, 2).contiguous().transpose(1, 2)
    assert not wide.is_contiguous()
    assert not high.is_contiguous()
    expected = gradients(qk, v, *tables, 2)
    for found, truth in zip(gradients(high, wide, *tables, 2), expected, strict=True):
        torch.testing.assert_close(found, truth)


def test_nan_stays_in_its_image():
    qk, v, *tables = arguments(3, 4, 8)
    qk[0, 1, 1, 0] = torch.nan
    out = linear_attention(qk, v, *tables, 2)
    assert out[0].isnan().any()
    assert out[1].isfinite().all()


def test_empty_batch():
    for name, options in MIXERS_HERE.items():
        mixer, _ = build(name, 8, torch.float32, **options)
        x = torch.empty(0, 4, 5, 8, requires_grad=True)
        out = mixer(x)
        assert out.shape == x.shape
        out.sum().backward()


def test_flops_of_linear_attention():
    """Count the sums of keys and values and the products with queries: 2 N C d multiply-adds each."""
    counts = []
    for device in ('cpu', 'meta'):
        inputs = [x.to(device) for x in arguments(3, 5, 8)]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            linear_attention(*inputs, 2)
        counts.append(counter.get_total_flops())
    assert counts == [2 * 2 * 2 * 15 * 8 * 4] * 2


def test_refused_shapes_of_linear_attention():
    qk, v, down, across = arguments(3, 5, 8)
    for bad in (
        (qk[..., :8], v, down, across, 2),
        (qk, v, across, down, 2),
        (qk, v, down, None, 2),
        (qk, v, down, across, 3),
    ):
        with pytest.raises(BackboneError, match='linear_attention: shapes of qk'):
            linear_attention(*bad)


# Focal modulation


def focal_oracle(x, p, levels, normalize, postln):
    dim = x.shape[2]
    both = project(x, p, 'f')
    q, context, gates = both[..., :dim], both[..., dim : 2 * dim], both[..., 2 * dim :]
    total = np.zeros_like(x)
    for level in range(levels):
        context = depthwise(context, p[f'focal_layers.{level}.0.weight'])
        context = np.apply_along_axis(gelu, 2, context)
        total += context * gates[..., level : level + 1]
    total += gelu(context.mean((0, 1))) * gates[..., levels:]
    out = q * project(total / (levels + 1) if normalize else total, p, 'h')
    if postln:
        mean, variance = out.mean(2, keepdims=True), out.var(2, keepdims=True)
        out = (out - mean) / np.sqrt(variance + 1e-5) * p['ln.weight'] + p['ln.bias']
    return project(out, p, 'proj')


@few
@given(
    height=sides,
    width=sides,
    window=st.sampled_from([1, 3, 5]),
    levels=st.integers(1, 3),
    normalize=st.booleans(),
    postln=st.booleans(),
)
def test_focal(height, width, window, levels, normalize, postln):
    options = {'normalize_modulator': normalize, 'use_postln_in_modulation': postln}
    mixer, p = build('focal', 4, focal_window=window, focal_level=levels, **options)
    sides_of_kernels = [layer[0].weight.shape[2:] for layer in mixer.focal_layers]
    assert sides_of_kernels == [(window + 2 * level,) * 2 for level in range(levels)]
    x = tokens(height, width, 4)
    assert_equal_to_oracle(mixer, x, lambda x: focal_oracle(x, p, levels, normalize, postln))


# Agent attention


def interpolated(table, axis, length):
    """Interpolate linearly along an axis, half-pixel centers."""
    table = np.moveaxis(table, axis, 0)
    out = []
    for i in range(length):
        place = min(max((i + 0.5) * len(table) / length - 0.5, 0), len(table) - 1)
        low = int(place)
        high, part = min(low + 1, len(table) - 1), place - low
        out.append((1 - part) * table[low] + part * table[high])
    return np.moveaxis(np.array(out), 0, axis)


def bias_oracle(table, rows, columns, size, shape):
    """Resize (heads, agents, h, w), first the map, then the agents -> (heads, agents, H * W)."""
    height, width = size
    side = math.isqrt(table.shape[1])
    total = 0
    for part in (table, rows + columns):
        part = interpolated(interpolated(part, 2, height), 3, width)
        part = part.reshape(len(part), side, side, height * width)
        total = total + interpolated(interpolated(part, 1, shape[0]), 2, shape[1])
    return total.reshape(len(table), -1, height * width)


def agent_oracle(x, p, shape):
    height, width, dim = x.shape
    q, kv = project(x, p, 'q'), project(x, p, 'kv')
    k, v = kv[..., :dim].reshape(-1, dim), kv[..., dim:]
    agents = []
    for i, j in np.ndindex(*shape):
        rows = slice(i * height // shape[0], math.ceil((i + 1) * height / shape[0]))
        columns = slice(j * width // shape[1], math.ceil((j + 1) * width / shape[1]))
        agents.append(q[rows, columns].mean((0, 1)))
    agents = np.array(agents)
    first = bias_oracle(p['an_bias'], p['ah_bias'][0], p['aw_bias'][0], (height, width), shape)
    to_front = [np.moveaxis(p[name][0], 3, 1) for name in ('ha_bias', 'wa_bias')]
    second = bias_oracle(p['na_bias'], *to_front, (height, width), shape)
    out = np.zeros((height * width, dim))
    flat_q, flat_v, size = q.reshape(-1, dim), v.reshape(-1, dim), dim // HEADS
    for h in range(HEADS):
        part = slice(h * size, (h + 1) * size)
        values = np.array(
            [
                softmax(k[:, part] @ a[part] / math.sqrt(size) + first[h, i]) @ flat_v[:, part]
                for i, a in enumerate(agents)
            ]
        )
        for i, query in enumerate(flat_q[:, part]):
            weights = softmax(agents[:, part] @ query / math.sqrt(size) + second[h, :, i])
            out[i, part] = weights @ values
    local = depthwise(v, p['dwc.weight']) + p['dwc.bias']
    return project(out.reshape(x.shape) + local, p, 'proj')


@few
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    side=st.integers(1, 3),
    shape=st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)),
    grid=st.sampled_from([1, 5, 14]),
    qkv_bias=st.booleans(),
)
def test_agent(height, width, side, shape, grid, qkv_bias):
    """Maps may be smaller than the agents, and tables larger than the map."""
    options = {'agent_num': side**2, 'agent_shape': shape, 'bias_grid': grid, 'qkv_bias': qkv_bias}
    mixer, p = build('agent', 6, num_heads=HEADS, **options)
    assert ('q.bias' in p) == ('kv.bias' in p) == qkv_bias
    x, shape = tokens(height, width, 6), shape or (side, side)
    assert_equal_to_oracle(mixer, x, lambda x: agent_oracle(x, p, shape))
    with torch.no_grad():
        assert_equal_to_oracle(mixer, x, lambda x: agent_oracle(x, p, shape))


def test_agent_tables_start_small():
    mixer = MIXERS['agent'](8, 0, num_heads=2, agent_num=49, bias_grid=56)
    mixer.reset_parameters()
    for name in ('an_bias', 'na_bias', 'ah_bias', 'aw_bias', 'ha_bias', 'wa_bias'):
        assert 0.01 < mixer.get_parameter(name).std() < 0.03, name


# All three


@every_mixer
def test_gradients_of_the_map(name):
    mixer, _ = build(name, 4, **MIXERS_HERE[name])
    x = tokens(2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(mixer, (x,), fast_mode=True)


FLOPS = {
    # Queries and keys; sums and products with queries of 4 channels; the depthwise kernel.
    'linear_attention': 2 * 8 * 8 + 2 * 8 * 4 + 9 * 8,
    # f, h and proj; kernels of sides 3, 5 and 7.
    'focal': 8 * 20 + 2 * 8 * 8 + 8 * (9 + 25 + 49),
    # q, kv and proj; both attentions; the depthwise kernel.
    'agent': 4 * 8 * 8 + 4 * 9 * 8 + 9 * 8,
}


@every_mixer
@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_flops(name, device):
    """Count multiply-adds per token by hand."""
    mixer = MIXERS[name](8, 0, **MIXERS_HERE[name]).to(device)
    x = torch.zeros(BATCH, 5, 6, 8, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        mixer(x)
    assert counter.get_total_flops() == 2 * BATCH * 30 * FLOPS[name]


@every_mixer
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('training', [True, False])
def test_autocast(name, dtype, training):
    mixer, _ = build(name, 8, torch.float32, **MIXERS_HERE[name])
    x = tokens(5, 6, 8, torch.float32)
    with torch.set_grad_enabled(training):
        expected = mixer(x)
        with torch.autocast('cpu', dtype):
            out = mixer(x)
    assert out.isfinite().all()
    assert (out - expected).abs().max() < 16 * torch.finfo(dtype).eps * expected.abs().max()


@every_mixer
def test_one_graph_for_the_compiler(name):
    mixer, _ = build(name, 8, torch.float32, **MIXERS_HERE[name])
    x = tokens(5, 6, 8, torch.float32).requires_grad_()
    compiled = torch.compile(mixer, fullgraph=True, backend='aot_eager')
    expected = torch.autograd.grad(mixer(x).square().sum(), x)[0]
    out = compiled(x)
    torch.testing.assert_close(out, mixer(x), rtol=1e-4, atol=1e-4)
    found = torch.autograd.grad(out.square().sum(), x)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    torch._dynamo.reset()


@every_mixer
def test_export(name):
    mixer, _ = build(name, 8, torch.float32, **MIXERS_HERE[name])
    x = tokens(5, 6, 8, torch.float32)
    exported = torch.export.export(mixer.eval(), (x,)).module()
    torch.testing.assert_close(exported(x), mixer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'dim', 'options', 'message'),
    [
        ('linear_attention', 6, {'num_heads': 2}, 'not a multiple of 4'),
        ('linear_attention', 8, {'num_heads': 3}, 'num_heads=3'),
        ('focal', 8, {'focal_window': 4}, 'focal_window=4'),
        ('focal', 8, {'focal_level': 0}, 'focal_level=0'),
        ('agent', 8, {'num_heads': 2, 'agent_num': 8, 'bias_grid': 7}, 'agent_num=8'),
        ('agent', 8, {'num_heads': 2, 'agent_num': 0, 'bias_grid': 7}, 'agent_num=0'),
        ('agent', 8, {'num_heads': 2, 'bias_grid': 0}, 'bias_grid=0'),
        ('agent', 8, {'num_heads': 2, 'bias_grid': 7, 'agent_shape': (0, 3)}, 'agent_shape'),
        ('agent', 8, {'num_heads': 3, 'bias_grid': 7}, 'num_heads=3'),
    ],
)
def test_refused_options(name, dim, options, message):
    with pytest.raises(BackboneError, match=message):
        MIXERS[name](dim, 0, **options)
