"""Linear attention with a rotary position encoding in plain PyTorch, on any device and in any dtype."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recompute_in_backward

from backbones.ops.tracing import is_traced

# Added to the sum of attention weights.
EPSILON = 1e-6


def linear_attention(
    qk: Tensor, v: Tensor, down: Tensor | None, across: Tensor | None, num_heads: int
) -> Tensor:
    """See `backbones.ops.linear_attention.linear_attention`.

    Autograd keeps only the inputs; the backward pass computes the features again.
    """
    arguments = (qk, v, down, across, num_heads)
    if not torch.is_grad_enabled() or is_traced():
        return with_all_features(*arguments)
    return recompute_in_backward(
        with_all_features, *arguments, use_reentrant=False, preserve_rng_state=False
    )


def with_all_features(
    qk: Tensor, v: Tensor, down: Tensor | None, across: Tensor | None, num_heads: int
) -> Tensor:
    """Compute linear attention; autograd keeps all features in memory."""
    batch, height, width, dim = v.shape
    # Half precision is too coarse for the angles and for the sum of the weights.
    exact = torch.float64 if qk.dtype == torch.float64 else torch.float32
    q, k = (F.elu(qk.to(exact)) + 1).chunk(2, dim=-1)
    weights = (q * k.mean((1, 2), keepdim=True)).unflatten(-1, (num_heads, -1)).sum(-1)
    if down is not None:
        q, k = turn(q, down, across), turn(k, down, across)
    # Both factors keep the sums small in half precision.
    root = (height * width) ** -0.5
    heads = (num_heads, dim // num_heads)
    q, k, v = (
        x.to(qk.dtype).flatten(1, 2).unflatten(2, heads).transpose(1, 2) for x in (q, k * root, v * root)
    )
    out = (q @ (k.mT @ v)).transpose(1, 2).reshape(batch, height, width, *heads)
    return (out / (weights[..., None] + EPSILON)).to(qk.dtype).flatten(3)


def turn(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Turn the pairs of channels of (B, H, W, C) by the angles of `rotation_tables`."""
    by_row, by_column = x.chunk(2, dim=-1)
    return torch.cat([_turn(by_row, *down[:, :, None]), _turn(by_column, *across)], -1)


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cosine + swapped * sine
