"""Neighborhood attention by its definition: one query and one neighbor at a time, in float64."""

import itertools

import numpy as np
import torch


def neighbors_of(place, length, kernel_size, dilation):
    """Return the `kernel_size` positions nearest to `place` with its remainder, ascending."""
    same = [other for other in range(length) if (other - place) % dilation == 0]
    spot = same.index(place)
    start = min(max(spot - kernel_size // 2, 0), len(same) - kernel_size)
    return same[start : start + kernel_size]


def attended_in_loops(q, k, v, rpb, kernel_size, dilation):
    """Compute attention from tensors (B, H, W, heads, D) in loops."""
    q, k, v, rpb = (tensor.detach().double().numpy() for tensor in (q, k, v, rpb))
    batch, height, width, heads, dim = q.shape
    out = np.zeros(q.shape)
    for b, y, x, h in itertools.product(range(batch), range(height), range(width), range(heads)):
        near = [
            *itertools.product(
                neighbors_of(y, height, kernel_size, dilation),
                neighbors_of(x, width, kernel_size, dilation),
            )
        ]
        logits = [
            q[b, y, x, h] @ k[b, down, across, h] / np.sqrt(dim)
            + rpb[
                h,
                (down - y) // dilation + kernel_size - 1,
                (across - x) // dilation + kernel_size - 1,
            ]
            for down, across in near
        ]
        weights = np.exp(np.array(logits) - max(logits))
        for weight, (down, across) in zip(weights / weights.sum(), near, strict=True):
            out[b, y, x, h] += weight * v[b, down, across, h]
    return torch.from_numpy(out)


def random_inputs(size, kernel_size, dtype=torch.float32, seed=0):
    """Return q, k, v of size (B, H, W, heads, D), slices of one tensor; rpb; and an output gradient."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width, heads, dim = size
    qkv = torch.randn(batch, height, width, 3, heads, dim, generator=generator).to(dtype)
    side = 2 * kernel_size - 1
    rpb = torch.randn(heads, side, side, generator=generator)
    return *qkv.unbind(3), rpb, torch.randn(size, generator=generator).to(dtype)
