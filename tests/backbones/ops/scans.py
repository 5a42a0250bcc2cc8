"""Selective scans to compare with: random inputs, and a loop over positions in double precision."""

import numpy as np
import torch


def inputs(size, dtype=torch.float32, bias=-3.0):
    """Return random inputs of the operator and an output gradient."""
    batch, height, width, dim, rank, states = size
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    u, numbers = random(batch, height, width, dim), random(batch, height, width, 4, rank + 2 * states)
    a_logs = torch.arange(1, states + 1).log() + 0.1 * random(4 * dim, states)
    weights = random(4, dim, rank) / rank**0.5, random(4, dim) + bias, a_logs, random(4 * dim)
    return (u.to(dtype), numbers.to(dtype), *weights), random(batch, height, width, dim)


def in_loops(u, projected, step_weight, step_bias, a_logs, skips):
    """Follow the definition, one direction and position at a time."""
    tensors = (u, projected, step_weight, step_bias, a_logs, skips)
    u, projected, step_weight, step_bias, a_logs, skips = (t.double().numpy() for t in tensors)
    batch, height, width, dim = u.shape
    rank, states = step_weight.shape[2], a_logs.shape[1]
    rows = [(y, x) for y in range(height) for x in range(width)]
    columns = [(y, x) for x in range(width) for y in range(height)]
    out = np.zeros(u.shape)
    for direction, order in enumerate([rows, columns, rows[::-1], columns[::-1]]):
        own = slice(direction * dim, (direction + 1) * dim)
        rates = -np.exp(a_logs[own])
        for image in range(batch):
            state = np.zeros((dim, states))
            for y, x in order:
                value, numbers = u[image, y, x], projected[image, y, x, direction]
                low_rank, b, c = np.split(numbers, [rank, rank + states])
                step = np.logaddexp(0, step_weight[direction] @ low_rank + step_bias[direction])[:, None]
                state = np.exp(step * rates) * state + step * b * value[:, None]
                out[image, y, x] += state @ c + skips[own] * value
    return torch.from_numpy(out)


def output_and_gradients(function, tensors, grad):
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    out = function(*tensors)
    return out.detach(), *torch.autograd.grad(out, tensors, grad.to(out.dtype))


def assert_near(found, truth, tolerance):
    largest = max(truth.abs().max().item(), 1e-3)
    torch.testing.assert_close(found.double(), truth, rtol=0, atol=tolerance * largest)
