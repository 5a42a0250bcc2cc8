"""Linear attention with a rotary position encoding (Han et al., arXiv 2405.16605, section 3)."""

from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from backbones.errors import BackboneError
from backbones.ops import linear_attention_reference
from backbones.ops.fast_paths import fast_path
from backbones.ops.tracing import is_traced

# Base of the frequencies of the rotary encoding.
BASE = 10000.0


def linear_attention(
    qk: Tensor, v: Tensor, down: Tensor | None, across: Tensor | None, num_heads: int
) -> Tensor:
    """Compute linear attention of all tokens of a map to each other.

    With features f = elu(.) + 1, turned to f' by the rotary encoding, the output of token i in a head is
    mean_j (f'(q_i) . f'(k_j)) v_j / (f(q_i) . mean_j f(k_j) + 1e-6).

    Args:
        qk: queries and keys side by side, (B, H, W, 2 C).
        v: values, (B, H, W, C).
        down, across: tables of `rotation_tables`, (2, H, C / 2) and (2, W, C / 2); None to turn nothing.
        num_heads: number of heads.

    Returns:
        (B, H, W, C), in the dtype of `qk`.

    Raises:
        BackboneError: the shapes do not match.
    """
    _check_shapes(qk, v, down, across, num_heads)
    v = v.to(qk.dtype)
    if _compiled_serves(qk, v, down, num_heads):
        return _attend(qk, v, down, across, num_heads)[0]
    return linear_attention_reference.linear_attention(qk, v, down, across, num_heads)


def rotation_tables(
    height: int, width: int, dim: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return cosines and signed sines by row and by column, (2, H, C / 2) and (2, W, C / 2).

    Channels 2j and 2j + 1 are the parts of a complex number. Those in the first half of the channels are
    turned by the angle y f_j, and those in the second half by x f_j, with f_j = 10000 ** (-4 j / C). The
    sines of even channels are negative.

    Args:
        height, width: size of the map.
        dim: number of channels C; a multiple of 4.
        device: device of the tables.
        dtype: dtype of the map; the tables are float64 if it is, else float32.
    """
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    pairs = torch.arange(dim // 4, device=device, dtype=dtype)
    frequency = BASE ** (-4 * pairs / dim)
    tables = []
    for length in (height, width):
        angle = torch.arange(length, device=device, dtype=dtype)[:, None, None] * frequency[:, None]
        # Not multiplied by a tensor of signs: to create that on a GPU, the CPU waits for it.
        sines = torch.cat([-angle.sin(), angle.sin()], dim=-1)
        tables.append(torch.stack([angle.cos().expand(-1, -1, 2), sines]).flatten(2))
    return tables[0], tables[1]


def _check_shapes(
    qk: Tensor, v: Tensor, down: Tensor | None, across: Tensor | None, num_heads: int
) -> None:
    """Check the shapes; the compiled code does no bounds checks."""
    fits = v.dim() == 4 and qk.shape == (*v.shape[:3], 2 * v.shape[3]) and v.shape[3] % num_heads == 0
    for table, axis in ((down, 1), (across, 2)):
        fits = fits and (table is None or table.shape == (2, v.shape[axis], v.shape[3] // 2))
    if not fits or (down is None) != (across is None):
        tables = None if down is None or across is None else (*down.shape, *across.shape)
        raise BackboneError(
            f'linear_attention: shapes of qk {tuple(qk.shape)}, v {tuple(v.shape)} and tables {tables} '
            f'do not match with num_heads={num_heads}; expected (B, H, W, 2 C), (B, H, W, C), and '
            '(2, H, C / 2), (2, W, C / 2) or None'
        )


@torch.library.custom_op('dense_mixers::linear_attention', mutates_args=())
def _attend(
    qk: Tensor, v: Tensor, down: Tensor | None, across: Tensor | None, num_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and what the backward pass needs: sums and the mean of all keys."""
    return _kernels().forward(qk, v, down, across, num_heads)


@torch.library.custom_op('dense_mixers::linear_attention_backward', mutates_args=())
def _attend_backward(
    grad: Tensor,
    qk: Tensor,
    v: Tensor,
    down: Tensor | None,
    across: Tensor | None,
    sums: Tensor,
    mean: Tensor,
) -> tuple[Tensor, Tensor]:
    return _kernels().backward(grad, qk, v, down, across, sums, mean)


@_attend.register_fake
def _(qk, v, down, across, num_heads):
    batch, dim = v.shape[0], v.shape[3]
    sums = v.new_empty(batch, num_heads, dim // num_heads, dim // num_heads)
    return v.new_empty(v.shape), sums, v.new_empty((batch, dim), dtype=torch.float32)


@_attend_backward.register_fake
def _(grad, qk, v, down, across, sums, mean):
    return qk.new_empty(qk.shape), v.new_empty(v.shape)


def _keep(ctx, inputs: tuple, output: tuple) -> None:
    qk, v, down, across, ctx.num_heads = inputs
    ctx.save_for_backward(qk, v, down, across, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _gradients(ctx, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    return *_attend_backward(grad, *ctx.saved_tensors), None, None, None


_attend.register_autograd(_gradients, setup_context=_keep)


@register_flop_formula(torch.ops.dense_mixers.linear_attention)
def _flops(qk_shape, v_shape, down_shape, across_shape, num_heads, *_, **__) -> int:
    """Count the products of keys and values, and of queries and their sums."""
    return 2 * 2 * v_shape.numel() * v_shape[-1] // num_heads


def _compiled_serves(qk: Tensor, v: Tensor, down: Tensor | None, num_heads: int) -> bool:
    """Return whether the CPU's own operator supports these tensors."""
    return (
        qk.device.type == 'cpu'
        and qk.dtype in (torch.float32, torch.bfloat16)
        and qk.numel() > 0
        and not is_traced()
        and _kernels() is not None
        and (down is None or (v.shape[3] // num_heads) % 2 == 0)
    )


def _kernels() -> ModuleType | None:
    """Return the CPU's operator; None to use plain PyTorch."""
    return fast_path('cpu', 'linear_attention', 'linear attention')
