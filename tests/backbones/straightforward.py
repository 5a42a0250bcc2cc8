"""Mixers written step by step in plain PyTorch, from the parameters of the suite's mixers.

Tests compare both. As a script, this file times both, forward and with backward, in the stages of the
tiny scale on an image of 512x800:

    python -m tests.backbones.straightforward [--dtype bf16] [--mixers nat ss2d]
"""

import argparse
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from backbones.unified import build_mixer
from tests.variants import VARIANTS

IMAGE = (512, 800)
ROUNDS = 5


def channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def depthwise(x: Tensor, conv: torch.nn.Conv2d) -> Tensor:
    side = conv.weight.shape[-1]
    out = F.conv2d(channels_first(x), conv.weight, conv.bias, padding=side // 2, groups=x.shape[-1])
    return channels_last(out)


def project(x: Tensor, layer: torch.nn.Linear) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def nat(m, x: Tensor) -> Tensor:
    """Gather the keys and values of every query."""
    _, height, width, dim = x.shape
    k, t, heads = m.kernel_size, m.dilation, m.num_heads
    padded = F.pad(x, (0, 0, 0, max(0, k * t - width), 0, max(0, k * t - height)))
    rows, columns = (_neighbors(n, k, t) for n in padded.shape[1:3])
    qkv = project(padded, m.qkv).unflatten(-1, (3, heads, dim // heads))
    q, keys, values = qkv.unbind(3)

    def gathered(tensor):
        # (B, H, k, W, k, heads, d) -> (B, H, W, heads, k * k, d).
        return tensor[:, rows][:, :, :, columns].permute(0, 1, 3, 5, 2, 4, 6).flatten(4, 5)

    logits = (q[..., None, :] * (dim // heads) ** -0.5 * gathered(keys)).sum(-1)
    down, across = (
        (index - torch.arange(len(index))[:, None]) // t + k - 1 for index in (rows, columns)
    )
    bias = m.rpb[:, down[:, None, :, None], across[None, :, None, :]]
    logits = logits + bias.flatten(3).permute(1, 2, 0, 3)
    out = (logits.softmax(-1)[..., None] * gathered(values)).sum(-2)
    return project(out[:, :height, :width].flatten(3), m.proj)


def _neighbors(length: int, k: int, t: int) -> Tensor:
    """Return the k neighbors of every position of an axis, (length, k)."""
    found = []
    for i in range(length):
        g, p = i % t, i // t
        m = math.ceil((length - g) / t)
        start = min(max(p - k // 2, 0), m - k)
        found.append([g + t * (start + a) for a in range(k)])
    return torch.tensor(found)


def ss2d(m, x: Tensor) -> Tensor:
    """Scan four ordered copies of the map by doubling distances."""
    _, height, width, _ = x.shape
    u = F.silu(depthwise(project(x, m.in_proj), m.conv2d)).flatten(1, 2)
    by_column = u.unflatten(1, (height, width)).transpose(1, 2).flatten(1, 2)
    sequences = torch.stack([u, by_column, u.flip(1), by_column.flip(1)], 1)
    p = torch.einsum('bkld,krd->bklr', sequences, m.x_proj_weight)
    states, rank = m.A_logs.shape[1], m.dt_projs_weight.shape[2]
    dt, b, c = p.split([rank, states, states], -1)
    raw = torch.einsum('bklr,kdr->bkld', dt, m.dt_projs_weight)
    delta = F.softplus(raw.to(m.A_logs.dtype) + m.dt_projs_bias[:, None])
    rates = -m.A_logs.exp().unflatten(0, (4, -1))
    decay = torch.exp(delta[..., None] * rates[:, None])
    state = (delta * sequences)[..., None] * b[..., None, :]
    distance = 1
    while distance < height * width:
        before = F.pad(state[:, :, :-distance], (0, 0, 0, 0, distance, 0))
        state = state + decay * before
        decay = decay * F.pad(decay[:, :, :-distance], (0, 0, 0, 0, distance, 0), value=1.0)
        distance *= 2
    y = (state * c[..., None, :]).sum(-1) + m.Ds.unflatten(0, (4, -1))[:, None] * sequences
    rows = y[:, 0] + y[:, 2].flip(1)
    columns = (y[:, 1] + y[:, 3].flip(1)).unflatten(1, (width, height)).transpose(1, 2).flatten(1, 2)
    total = (rows + columns).unflatten(1, (height, width))
    norm = m.out_norm
    out = F.layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return project(out.to(u.dtype), m.out_proj)


def linear_attention(m, x: Tensor) -> Tensor:
    """Turn pairs of channels, then split heads."""
    _, height, width, dim = x.shape
    heads = (m.num_heads, dim // m.num_heads)
    q, k = (F.elu(part) + 1 for part in project(x, m.qk).chunk(2, -1))
    frequencies = 10000 ** (-torch.arange(dim // 4) / (dim // 4)).to(x.dtype)
    down = torch.arange(height)[:, None, None] * frequencies
    across = torch.arange(width)[None, :, None] * frequencies
    angles = torch.cat([down.expand(-1, width, -1), across.expand(height, -1, -1)], -1)

    def turned(tensor):
        real, imaginary = tensor[..., ::2], tensor[..., 1::2]
        pairs = torch.stack(
            [
                real * angles.cos() - imaginary * angles.sin(),
                real * angles.sin() + imaginary * angles.cos(),
            ],
            -1,
        )
        return pairs.flatten(-2)

    def by_head(tensor):
        return tensor.flatten(1, 2).unflatten(-1, heads).transpose(1, 2)

    tokens = height * width
    z = 1 / (by_head(q) @ by_head(k).mean(-2, keepdim=True).transpose(-1, -2) + 1e-6)
    sums = (by_head(turned(k)).transpose(-1, -2) * tokens**-0.5) @ (by_head(x) * tokens**-0.5)
    out = (by_head(turned(q)) @ sums * z).transpose(1, 2).reshape(x.shape)
    return out + depthwise(x, m.lepe)


def dcnv4(m, x: Tensor) -> Tensor:
    """Sample each point of the grid with `grid_sample`."""
    _, height, width, _ = x.shape
    groups, side, scale = m.num_heads, m.kernel_size, m.offset_scale
    points = side**2
    features = x if m.offset_mask_dw is None else depthwise(x, m.offset_mask_dw)
    t = project(features, m.offset_mask)[..., : 3 * points * groups].unflatten(-1, (groups, -1))
    offsets, weights = t[..., : 2 * points].unflatten(-1, (points, 2)), t[..., 2 * points :]
    value = project(x, m.value_proj).unflatten(-1, (groups, -1)).permute(0, 3, 4, 1, 2).flatten(0, 1)
    rows, columns = torch.arange(height)[:, None, None], torch.arange(width)[None, :, None]
    total = 0.0
    for point in range(points):
        across, down = point // side - side // 2, point % side - side // 2
        column = columns + scale * (across + offsets[..., point, 0])
        row = rows + scale * (down + offsets[..., point, 1])
        grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], -1)
        grid = grid.permute(0, 3, 1, 2, 4).flatten(0, 1).to(value.dtype)
        sample = F.grid_sample(value, grid, 'bilinear', 'zeros', align_corners=False)
        weight = weights[..., point].permute(0, 3, 1, 2).flatten(0, 1)[:, None]
        total = total + sample * weight
    out = total.unflatten(0, (-1, groups)).permute(0, 3, 4, 1, 2).flatten(3)
    return project(out, m.output_proj)


def replk(m, x: Tensor) -> Tensor:
    """Run both branches."""
    total = 0.0
    for branch in (m.lkb_origin, m.small_conv):
        bn = branch.bn
        normalized = F.batch_norm(
            channels_first(depthwise(x, branch.conv)),
            *(bn.running_mean, bn.running_var, bn.weight, bn.bias),
            training=m.training,
            eps=bn.eps,
        )
        total = total + channels_last(normalized)
    return total


def focal(m, x: Tensor) -> Tensor:
    """Gate and sum one context after the other."""
    dim, levels = x.shape[-1], len(m.focal_layers)
    q, context, gates = project(x, m.f).split([dim, dim, levels + 1], -1)
    total = 0.0
    for level, layer in enumerate(m.focal_layers):
        context = F.gelu(depthwise(context, layer[0]))
        total = total + context * gates[..., level : level + 1]
    total = total + F.gelu(context.mean((1, 2), keepdim=True)) * gates[..., levels:]
    return project(q * project(total, m.h), m.proj)


def agent(m, x: Tensor) -> Tensor:
    """Compute both softmax matrices."""
    _, height, width, dim = x.shape
    side = math.isqrt(m.an_bias.shape[1])

    def resized(table):
        table = F.interpolate(table, (height, width), mode='bilinear').flatten(2)
        agents = table.transpose(1, 2).unflatten(2, (side, side))
        agents = F.interpolate(agents, m.agent_shape, mode='bilinear').flatten(2)
        return agents.transpose(1, 2)

    def by_head(tensor):
        return tensor.flatten(1, 2).unflatten(-1, (m.num_heads, -1)).transpose(1, 2)

    q = project(x, m.q)
    k, v = project(x, m.kv).chunk(2, -1)
    agents = by_head(channels_last(F.adaptive_avg_pool2d(channels_first(q), m.agent_shape)))
    scale = (dim // m.num_heads) ** -0.5
    first = resized(m.an_bias) + resized((m.ah_bias + m.aw_bias)[0])
    second = resized(m.na_bias) + resized((m.ha_bias + m.wa_bias)[0].permute(0, 3, 1, 2))
    values = (scale * agents @ by_head(k).transpose(-1, -2) + first).softmax(-1) @ by_head(v)
    weights = (scale * by_head(q) @ agents.transpose(-1, -2) + second.transpose(1, 2)).softmax(-1)
    out = (weights @ values).transpose(1, 2).reshape(x.shape)
    return project(out + depthwise(v, m.dwc), m.proj)


def pool(m, x: Tensor) -> Tensor:
    """Pool the map with channels first."""
    maps = channels_first(x).contiguous()
    pooled = F.avg_pool2d(maps, m.pool_size, 1, m.pool_size // 2, count_include_pad=False)
    return channels_last(pooled - maps)


STRAIGHTFORWARD = {
    'nat': nat,
    'ss2d': ss2d,
    'linear_attention': linear_attention,
    'dcnv4': dcnv4,
    'replk': replk,
    'focal': focal,
    'agent': agent,
    'pool': pool,
}


def stage_seconds(mixer: str, stage: int, dtype: torch.dtype, *, backward: bool) -> tuple[float, ...]:
    """Return the median seconds of the mixer and of its straightforward version, in alternation."""
    config = VARIANTS[f'{mixer}_tiny']
    module = build_mixer(config['mixer'], stage, 4, config['dims'][stage], 1).train(backward)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    size = [-(-side // 2 ** (stage + 2)) for side in IMAGE]
    x = torch.randn(1, *size, config['dims'][stage], requires_grad=backward)

    def run(function) -> float:
        begin = time.perf_counter()
        with torch.set_grad_enabled(backward), torch.autocast('cpu', dtype, dtype != torch.float32):
            out = function(x)
        if backward:
            out.float().sum().backward()
        return time.perf_counter() - begin

    functions = (module, lambda x: STRAIGHTFORWARD[mixer](module, x))
    for function in functions:
        run(function)
    times = [[run(function) for function in functions] for _ in range(ROUNDS)]
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--dtype', choices=['fp32', 'bf16'], default='fp32')
    parser.add_argument('--mixers', nargs='+', choices=STRAIGHTFORWARD, default=STRAIGHTFORWARD)
    arguments = parser.parse_args()
    dtype = {'fp32': torch.float32, 'bf16': torch.bfloat16}[arguments.dtype]
    print(
        '| mixer | forward ms | straightforward | ratio | with backward ms | straightforward | ratio |'
    )
    print('| --- | ---: | ---: | ---: | ---: | ---: | ---: |')
    for mixer in arguments.mixers:
        depths = VARIANTS[f'{mixer}_tiny']['depths']
        cells = []
        for backward in (False, True):
            pairs = [stage_seconds(mixer, stage, dtype, backward=backward) for stage in range(4)]
            own, plain = (
                sum(depth * pair[which] for depth, pair in zip(depths, pairs, strict=True))
                for which in (0, 1)
            )
            cells += [f'{1000 * own:.0f}', f'{1000 * plain:.0f}', f'{plain / own:.1f}']
        print(f'| {mixer} | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
    main()
