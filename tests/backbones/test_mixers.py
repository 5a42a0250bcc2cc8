"""Every mixer compared with loops over tokens that follow the definitions in the papers."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from backbones import MIXERS
from backbones.ops.windows import merge, pad_to_multiple, partition

BATCH, DIM, HEADS = 2, 6, 3
sides = st.integers(1, 9)
few = settings(max_examples=20, deadline=None)


def build(name, *, block_index=0, scale=1.0, **options):
    """Return a float64 mixer with random parameters, and the parameters as arrays."""
    torch.manual_seed(0)  # the same for every example of hypothesis, so that failures are reproducible
    mixer = MIXERS[name](DIM, block_index, **options).double()
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return mixer, {n: p.detach().numpy() for n, p in mixer.named_parameters()}


def tokens(height, width):
    return torch.randn(BATCH, height, width, DIM, dtype=torch.float64)


def assert_equal_to_oracle(mixer, x, oracle):
    expected = np.stack([oracle(sample) for sample in x.numpy()])
    output = mixer(x).detach()
    assert output.shape == x.shape
    np.testing.assert_allclose(output.numpy(), expected, rtol=1e-9, atol=1e-9)


def softmax(logits):
    weights = np.exp(np.asarray(logits) - max(logits))
    return weights / weights.sum()


def layer_norm(vector, weight, bias, eps):
    return (vector - vector.mean()) / np.sqrt(vector.var() + eps) * weight + bias


def gelu(vector):
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in vector])


def at(x, row, column):
    """Return a token of a map (H, W, C); zero outside."""
    inside = 0 <= row < x.shape[0] and 0 <= column < x.shape[1]
    return x[row, column] if inside else np.zeros(x.shape[2])


def head(vector, index):
    size = len(vector) // HEADS
    return vector[index * size : (index + 1) * size]


def round_up(number, multiple):
    return math.ceil(number / multiple) * multiple


def depthwise(x, row, column, weight, bias):
    """Correlate each channel with its own kernel, (C, 1, K, K), around one token."""
    reach = weight.shape[-1] // 2
    return bias + sum(
        weight[:, 0, i, j] * at(x, row + i - reach, column + j - reach)
        for i in range(2 * reach + 1)
        for j in range(2 * reach + 1)
    )


# Halo attention


def halo_oracle(x, p, block, halo):
    height, width, dim = x.shape
    size = dim // HEADS
    window = block + 2 * halo
    out = np.zeros_like(x)
    for row, column in np.ndindex(height, width):
        top, left = row // block * block - halo, column // block * block - halo
        keys = [
            (kh, kw)
            for kh, kw in np.ndindex(window, window)
            if 0 <= top + kh < round_up(height, block) and 0 <= left + kw < round_up(width, block)
        ]
        # Per head: keys, then values.
        kv = [p['kv.weight'] @ at(x, top + kh, left + kw) for kh, kw in keys]
        mixed = []
        for h in range(HEADS):
            q = head(p['q.weight'] @ x[row, column], h)
            logits = [
                q @ entry[2 * h * size : (2 * h + 1) * size] / math.sqrt(size)
                + q @ p['height_rel'][kh - row % block + window - 1]
                + q @ p['width_rel'][kw - column % block + window - 1]
                for (kh, kw), entry in zip(keys, kv, strict=True)
            ]
            values = np.array([entry[(2 * h + 1) * size : (2 * h + 2) * size] for entry in kv])
            mixed.append(softmax(logits) @ values)
        out[row, column] = p['proj.weight'] @ np.concatenate(mixed) + p['proj.bias']
    return out


@few
@given(height=sides, width=sides, block=st.integers(1, 4), halo=st.integers(0, 3))
def test_halo_with_any_window(height, width, block, halo):
    mixer, p = build('halo', num_heads=HEADS, block_size=block, halo_size=halo)
    assert_equal_to_oracle(mixer, tokens(height, width), lambda x: halo_oracle(x, p, block, halo))


@pytest.mark.parametrize('size', [(3, 5), (7, 7), (8, 5), (9, 15)])
def test_halo_with_released_window(size):
    mixer, p = build('halo', num_heads=HEADS)
    assert p['height_rel'].shape == p['width_rel'].shape == (25, DIM // HEADS)
    assert_equal_to_oracle(mixer, tokens(*size), lambda x: halo_oracle(x, p, block=7, halo=3))


# Spatial-reduction attention


def pvt_oracle(x, p, ratio):
    height, width, dim = x.shape
    sources = []
    for i, j in np.ndindex(height // ratio, width // ratio):
        if ratio == 1:
            sources.append(x[i, j])
            continue
        reduced = p['sr.bias'] + sum(
            p['sr.weight'][:, :, a, b] @ x[i * ratio + a, j * ratio + b]
            for a in range(ratio)
            for b in range(ratio)
        )
        sources.append(layer_norm(reduced, p['norm.weight'], p['norm.bias'], eps=1e-5))
    keys = [p['kv.weight'][:dim] @ s + p['kv.bias'][:dim] for s in sources]
    values = [p['kv.weight'][dim:] @ s + p['kv.bias'][dim:] for s in sources]
    out = np.zeros_like(x)
    for row, column in np.ndindex(height, width):
        q = p['q.weight'] @ x[row, column] + p['q.bias']
        mixed = []
        for h in range(HEADS):
            logits = [head(q, h) @ head(k, h) / math.sqrt(dim // HEADS) for k in keys]
            mixed.append(softmax(logits) @ np.array([head(v, h) for v in values]))
        out[row, column] = p['proj.weight'] @ np.concatenate(mixed) + p['proj.bias']
    return out


@few
@given(data=st.data(), ratio=st.sampled_from([1, 2, 3, 4, 8]))
def test_pvt(data, ratio):
    height, width = (data.draw(st.integers(ratio, ratio + 6)) for _ in range(2))
    mixer, p = build('pvt', num_heads=HEADS, sr_ratio=ratio, scale=0.5)
    assert_equal_to_oracle(mixer, tokens(height, width), lambda x: pvt_oracle(x, p, ratio))


# Shifted window attention


def swin_oracle(x, p, window, shift):
    height, width, dim = x.shape
    rows, columns = round_up(height, window), round_up(width, window)
    out = np.zeros_like(x)
    for row, column in np.ndindex(height, width):
        # Position of the token after the cyclic shift; its window contains the keys.
        here = ((row - shift) % rows, (column - shift) % columns)
        q = p['qkv.weight'][:dim] @ x[row, column] + p['qkv.bias'][:dim]
        logits, values = [[] for _ in range(HEADS)], []
        for i, j in np.ndindex(window, window):
            there = (here[0] // window * window + i, here[1] // window * window + j)
            source = at(x, (there[0] + shift) % rows, (there[1] + shift) % columns)
            k = p['qkv.weight'][dim : 2 * dim] @ source + p['qkv.bias'][dim : 2 * dim]
            values.append(p['qkv.weight'][2 * dim :] @ source + p['qkv.bias'][2 * dim :])
            delta = (here[0] - there[0] + window - 1, here[1] - there[1] + window - 1)
            bias = p['relative_position_bias_table'][delta[0] * (2 * window - 1) + delta[1]]
            wrapped = [
                [a + shift >= side for a, side in zip(place, (rows, columns), strict=True)]
                for place in (here, there)
            ]
            mask = 0 if wrapped[0] == wrapped[1] else -100
            for h in range(HEADS):
                logits[h].append(head(q, h) @ head(k, h) / math.sqrt(dim // HEADS) + bias[h] + mask)
        mixed = [softmax(logits[h]) @ np.array([head(v, h) for v in values]) for h in range(HEADS)]
        out[row, column] = p['proj.weight'] @ np.concatenate(mixed) + p['proj.bias']
    return out


@few
@given(height=sides, width=sides, window=st.integers(1, 4), block_index=st.integers(0, 3))
def test_swin_with_any_window(height, width, window, block_index):
    mixer, p = build('swin', num_heads=HEADS, window_size=window, block_index=block_index)
    shift = window // 2 if block_index % 2 and min(height, width) > window else 0
    assert_equal_to_oracle(mixer, tokens(height, width), lambda x: swin_oracle(x, p, window, shift))


@pytest.mark.parametrize(
    ('size', 'block_index', 'shift'),
    [((3, 5), 0, 0), ((8, 9), 0, 0), ((8, 9), 1, 3), ((14, 8), 1, 3), ((7, 9), 1, 0), ((9, 7), 1, 0)],
)
def test_swin_with_released_window(size, block_index, shift):
    mixer, p = build('swin', num_heads=HEADS, block_index=block_index)
    assert p['relative_position_bias_table'].shape == (169, HEADS)
    assert_equal_to_oracle(mixer, tokens(*size), lambda x: swin_oracle(x, p, 7, shift))


def test_swin_mask_is_soft():
    """Tokens that are neighbors only because of the shift get -100, which a large bias outweighs."""
    mixer, p = build('swin', num_heads=HEADS, window_size=2, block_index=1)
    with torch.no_grad():
        mixer.relative_position_bias_table.mul_(100)
    assert_equal_to_oracle(mixer, tokens(4, 3), lambda x: swin_oracle(x, p, 2, 1))


# Depthwise convolution


def convnext_oracle(x, p):
    projected = np.stack([[p['input_proj.weight'] @ t + p['input_proj.bias'] for t in row] for row in x])
    out = np.zeros_like(x)
    for row, column in np.ndindex(*x.shape[:2]):
        # The padding is zero after the projection, regardless of its bias.
        mixed = depthwise(projected, row, column, p['conv.weight'], p['conv.bias'])
        out[row, column] = p['output_proj.weight'] @ mixed + p['output_proj.bias']
    return out


@few
@given(height=sides, width=sides, kernel=st.sampled_from([1, 3, 7]))
def test_convnext(height, width, kernel):
    mixer, p = build('convnext', kernel_size=kernel)
    assert_equal_to_oracle(mixer, tokens(height, width), lambda x: convnext_oracle(x, p))


def test_convnext_kernel_is_seven():
    mixer, p = build('convnext')
    assert p['conv.weight'].shape == (DIM, 1, 7, 7)
    assert_equal_to_oracle(mixer, tokens(5, 9), lambda x: convnext_oracle(x, p))


# Deformable convolution v3


def bilinear(x, row, column):
    """Interpolate a map (H, W, C) between its tokens; zero outside."""
    top, left = math.floor(row), math.floor(column)
    down, right = row - top, column - left
    return (
        (1 - down) * (1 - right) * at(x, top, left)
        + (1 - down) * right * at(x, top, left + 1)
        + down * (1 - right) * at(x, top + 1, left)
        + down * right * at(x, top + 1, left + 1)
    )


def dcn_oracle(x, p, kernel):
    height, width, dim = x.shape
    points, size = kernel**2, dim // HEADS
    value = np.stack([[p['value_proj.weight'] @ t + p['value_proj.bias'] for t in row] for row in x])
    out = np.zeros_like(x)
    for row, column in np.ndindex(height, width):
        features = depthwise(x, row, column, p['conv.weight'], p['conv.bias'])
        features = gelu(layer_norm(features, p['norm.weight'], p['norm.bias'], eps=1e-5))
        offsets = p['sampling_offsets.weight'] @ features + p['sampling_offsets.bias']
        logits = p['attention_weights.weight'] @ features + p['attention_weights.bias']
        mixed = []
        for h in range(HEADS):
            weights = softmax(logits[h * points : (h + 1) * points])
            total = np.zeros(size)
            for k in range(points):
                move_x, move_y = offsets[2 * (h * points + k) : 2 * (h * points + k) + 2]
                y = row + k % kernel - kernel // 2 + move_y
                x_ = column + k // kernel - kernel // 2 + move_x
                total += weights[k] * bilinear(value[..., h * size : (h + 1) * size], y, x_)
            mixed.append(total)
        out[row, column] = p['output_proj.weight'] @ np.concatenate(mixed) + p['output_proj.bias']
    return out


@few
@given(
    height=sides,
    width=sides,
    kernel=st.sampled_from([1, 3, 5]),
    reach=st.sampled_from([0.0, 0.3, 3.0, 100.0]),
)
def test_dcn(height, width, kernel, reach):
    """Offsets range from the undeformed grid to far outside the map."""
    mixer, p = build('dcn', num_heads=HEADS, kernel_size=kernel)
    with torch.no_grad():
        mixer.sampling_offsets.weight.mul_(reach)
        mixer.sampling_offsets.bias.mul_(reach)
    assert_equal_to_oracle(mixer, tokens(height, width), lambda x: dcn_oracle(x, p, kernel))


# Windows


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.integers(1, 4))
def test_partition_cuts_and_merge_undoes(rows, columns, size):
    x = torch.randn(2, rows * size, columns * size, 3)
    windows = partition(x, size)
    assert windows.shape == (2, rows, columns, size * size, 3)
    for row, column in np.ndindex(rows, columns):
        cut = x[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
        assert torch.equal(windows[:, row, column], cut.reshape(2, -1, 3))
    assert torch.equal(merge(windows, size), x)


@given(height=sides, width=sides, size=st.integers(1, 7))
def test_padding_is_zero_at_the_right_and_bottom(height, width, size):
    x = torch.randn(2, height, width, 3)
    padded = pad_to_multiple(x, size)
    assert padded.shape == (2, round_up(height, size), round_up(width, size), 3)
    assert torch.equal(padded[:, :height, :width], x)
    assert not padded[:, height:].any()
    assert not padded[:, :, width:].any()
