"""Linear attention with a rotary position encoding (Han et al., arXiv 2405.16605, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Base of the frequencies of the rotary encoding, and the smallest sum of attention weights.
BASE, EPSILON = 10000.0, 1e-6


def linear_attention(qk: Tensor, v: Tensor, table: Tensor | None, num_heads: int) -> Tensor:
    """Compute linear attention of all tokens of a map to each other.

    With features f = elu(.) + 1, turned to f' by the rotary encoding, the output of token i is
    mean_j (f'(q_i) . f'(k_j)) v_j / (f(q_i) . mean_j f(k_j)) in every head.

    Args:
        qk: queries and keys side by side, (B, H, W, 2 C).
        v: values, (B, H, W, C).
        table: cosines and sines of `rotation_table`, (2, H, W, C); None to turn nothing.
        num_heads: number of heads.

    Returns:
        (B, H, W, C).
    """
    batch, height, width, _ = v.shape
    features = F.elu(qk) + 1
    q, k = features.chunk(2, dim=-1)
    mean = k.mean((1, 2), keepdim=True)
    z = 1 / ((q * mean).unflatten(-1, (num_heads, -1)).sum(-1, keepdim=True) + EPSILON)
    if table is not None:
        q, k = turn(q, table).to(qk.dtype), turn(k, table).to(qk.dtype)
    # Both factors keep the sum small in half precision.
    root = (height * width) ** -0.5
    q, k, v = (
        t.reshape(batch, height * width, num_heads, -1).transpose(1, 2) for t in (q, k * root, v * root)
    )
    out = (q @ (k.transpose(2, 3) @ v)).transpose(1, 2)
    return (out.unflatten(1, (height, width)) * z).to(qk.dtype).flatten(3)


def rotation_table(height: int, width: int, dim: int, device: torch.device) -> Tensor:
    """Return cosines and signed sines of the angle of each channel at each position, (2, H, W, C).

    Channels 2j and 2j + 1 are a complex number, turned by y f_j in the first half of the channels and by
    x f_j in the second half; f_j = 10000 ** (-4 j / C). The sines of even channels are negative.
    """
    quarter = dim // 4
    frequency = BASE ** (-torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
    down, across = (torch.arange(n, device=device)[:, None] * frequency for n in (height, width))
    shape = (height, width, quarter)
    angle = torch.cat([down[:, None].expand(shape), across.expand(shape)], -1)
    sine = torch.stack([-angle.sin(), angle.sin()], -1)
    return torch.stack([angle.cos().repeat_interleave(2, -1), sine.flatten(2)])


def turn(x: Tensor, table: Tensor) -> Tensor:
    """Turn the pairs of channels of (B, H, W, C) by the angles of `rotation_table`."""
    cosine, sine = table
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cosine + swapped * sine
