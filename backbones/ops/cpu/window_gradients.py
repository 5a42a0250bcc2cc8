"""Gradients of attention within shifted windows on the CPU, compiled by numba.

As in the forward pass, one window of one head at a time is processed in the cache; its weights are
computed again.
"""

import numpy as np
import torch
from torch import Tensor

from backbones.ops.cpu.attention import (
    Cut,
    copy_rows,
    load_keys,
    load_queries,
    load_values,
    mask_wrapped,
    memory,
    padded_bias,
    row_and_part,
    square,
    store,
)
from backbones.ops.cpu.attention_gradients import slopes_of_scores, weigh_transposed, weights_of
from backbones.ops.cpu.attention_products import F, add_products, scratch, weigh
from backbones.ops.cpu.compiled import compiled
from backbones.ops.cpu.threads import for_ranges

# Number of separate sums of the bias; fixed, so that the result does not depend on the threads.
SUMS = 16


def window_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window_size: int, shift: int
) -> tuple[Tensor, ...]:
    """Return the gradients of the four tensors of `backbones.ops.attention.window_attention`.

    Each gradient has the dtype of its tensor. Deterministic for any number of threads.

    Args:
        grad: output gradient, (B, H, W, heads, D).
        q, k, v, bias, window_size, shift: same as in the forward pass.
    """
    batch, height, width, heads, dim = q.shape
    grad = grad.to(q.dtype).contiguous()
    gradients = [q.new_empty(q.shape) for _ in range(3)]
    padded = padded_bias(bias)
    sums = torch.zeros(SUMS, *padded.shape)
    maps = (memory(grad), (memory(q), memory(k), memory(v)), tuple(map(memory, gradients)))
    cut = Cut(height, width, heads, window_size, shift=shift)
    arguments = (*maps, padded, sums.numpy(), batch, cut, *row_and_part(dim))
    for_ranges(lambda begin, end: _windows(*arguments, begin, end), SUMS)
    grad_bias = sums.sum(0)[..., : bias.shape[-1]].to(bias.dtype)
    return *gradients, grad_bias


@compiled
def _windows(grad, inputs, gradients, bias, bias_sums, batch, cut, row, part, begin, end):
    """Compute bias sums `begin` to `end`, each over its share of the windows of all images."""
    (q, k, v), (grad_q, grad_k, grad_v) = inputs, gradients
    dim, count = len(row), cut.side**2
    rows, columns = cut.height // cut.side, cut.width // cut.side
    queries, keys, key_rows, scores, result = scratch(count, count, dim)
    grads, values, local, slopes, _ = scratch(count, count, dim)
    roots = np.full(queries.shape[0], np.sqrt(F(dim)), F)
    tokens, total = np.empty(count, np.int64), batch * rows * columns
    for number in range(begin, end):
        for window in range(total * number // SUMS, total * (number + 1) // SUMS):
            image, at = window // (rows * columns), window % (rows * columns)
            top, left = at // columns * cut.side + cut.shift, at % columns * cut.side + cut.shift
            square(tokens, cut, image, top, left, cut.side, True)
            for head in range(cut.heads):
                load_queries(q, tokens, head, queries, row)
                load_queries(grad, tokens, head, grads, row)
                load_keys(k, tokens, head, keys, dim)
                load_keys(v, tokens, head, values, dim)
                load_values(k, tokens, head, key_rows, row)
                copy_rows(bias[head], scores)
                if cut.shift:
                    mask_wrapped(scores, cut, top, left)
                queries *= F(1) / np.sqrt(F(dim))
                weights_of(queries, keys, scores, count, row)
                slopes[:] = F(0)
                add_products(grads, values, slopes, row)
                weigh_transposed(scores, grads, local, row, part)
                store(local, grad_v, tokens, head, row)
                slopes_of_scores(scores, slopes)
                bias_sums[number, head] += slopes[:count]
                weigh_transposed(slopes, queries, local, row, part)
                store(local, grad_k, tokens, head, row)
                weigh(slopes, key_rows, roots, count, result, row, part)
                store(result, grad_q, tokens, head, row)
