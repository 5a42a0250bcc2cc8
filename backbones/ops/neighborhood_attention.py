"""Neighborhood attention as one operator (Hassani et al., arXiv 2204.07143 and 2209.15001).

There are three implementations: plain PyTorch (the reference), numba on the CPU, and Triton on CUDA.
None keeps keys or values gathered by neighborhood in memory for the backward pass.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from backbones.errors import BackboneError
from backbones.ops import neighborhood_attention_reference
from backbones.ops.fast_paths import fast_path, implementation_of

# Module of the fast paths, and name in warnings.
OPERATOR = ('neighborhood_attention', 'neighborhood attention')


def neighborhood_attention(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int = 1
) -> Tensor:
    """Compute attention of every token to the `kernel_size` ** 2 tokens around it.

    Along each axis, the neighbors of a token are the `kernel_size` tokens nearest to it among those with
    the same remainder modulo `dilation`; the token is in the middle unless a border is in the way.

    Differentiable once; supports `torch.compile` and `torch.export`. Half precision is computed with
    float32 sums; float64 always uses the reference. See `fast_paths` for the environment variables
    `DENSE_MIXERS_CPU` and `DENSE_MIXERS_CUDA`.

    Args:
        q, k, v: (B, H, W, heads, D), H and W at least `kernel_size` * `dilation`.
        rpb: (heads, 2 * kernel_size - 1, 2 * kernel_size - 1), added to the logits of scaled queries and
            keys. Entry (y + kernel_size - 1, x + kernel_size - 1) is for a key that is y * `dilation`
            rows below and x * `dilation` columns to the right of the query.
        kernel_size: side of the neighborhood, in tokens; odd.
        dilation: distance between adjacent neighbors, in tokens.

    Returns:
        (B, H, W, heads, D), in the dtype of `q`.

    Raises:
        BackboneError: the shapes do not match, the map is smaller than a dilated window, or an
            environment variable has an unknown value.
    """
    check_shapes(q, k, v, rpb, kernel_size, dilation)
    if implementation(q.device.type, q.dtype) == 'reference':
        return neighborhood_attention_reference.forward(q, k, v, rpb, kernel_size, dilation)
    return attend(q, k, v, rpb, kernel_size, dilation)[0]


@torch.library.custom_op('dense_mixers::neighborhood_attention', mutates_args=())
def attend(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int
) -> tuple[Tensor, Tensor]:
    """Compute `neighborhood_attention` with a compiled implementation, as one operator.

    Returns:
        The output, and the logarithm of the sum of exponentials of every query's logits, float32
        (B, H, W, heads), which the backward pass reads and which has no gradient.
    """
    return _kernels(q.device.type).forward(q, k, v, rpb, kernel_size, dilation)


@torch.library.custom_op('dense_mixers::neighborhood_attention_backward', mutates_args=())
def attend_backward(
    grad_out: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor,
    out: Tensor,
    log_sums: Tensor,
    kernel_size: int,
    dilation: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and rpb of `attend`."""
    kernels = _kernels(q.device.type)
    return kernels.backward(grad_out, q, k, v, rpb, out, log_sums, kernel_size, dilation)


@attend.register_fake
def _(q, k, v, rpb, kernel_size, dilation):
    return q.new_empty(q.shape), q.new_empty(q.shape[:4], dtype=torch.float32)


@attend_backward.register_fake
def _(grad_out, q, k, v, rpb, out, log_sums, kernel_size, dilation):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v, rpb))


def _keep(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.kernel_size, ctx.dilation = inputs
    ctx.save_for_backward(*tensors, *output)


def _gradients(ctx, grad_out: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    found = attend_backward(grad_out, *ctx.saved_tensors, ctx.kernel_size, ctx.dilation)
    return *found, None, None


attend.register_autograd(_gradients, setup_context=_keep)


@register_flop_formula(torch.ops.dense_mixers.neighborhood_attention)
def _flops(q_shape, k_shape, v_shape, rpb_shape, kernel_size, *_, out_shape=None, **__) -> int:
    """Count the products of queries with keys and of weights with values."""
    return 2 * 2 * q_shape.numel() * kernel_size**2


def check_shapes(q: Tensor, k: Tensor, v: Tensor, rpb: Tensor, kernel_size: int, dilation: int) -> None:
    """Check the shapes; the compiled code does no bounds checks.

    Raises:
        BackboneError: the shapes or sizes are not those that `neighborhood_attention` expects.
    """
    if kernel_size < 1 or kernel_size % 2 == 0 or dilation < 1:
        raise BackboneError(
            f'neighborhood_attention: kernel_size={kernel_size}, dilation={dilation}; choose an odd '
            'kernel_size and a dilation of 1 or more'
        )
    table = 2 * kernel_size - 1
    if q.dim() != 5 or not q.shape == k.shape == v.shape or rpb.shape != (q.shape[3], table, table):
        shapes = ', '.join(str(tuple(tensor.shape)) for tensor in (q, k, v, rpb))
        raise BackboneError(
            f'neighborhood_attention: shapes {shapes} do not match; expected q, k, v '
            f'(B, H, W, heads, D) and rpb (heads, {table}, {table})'
        )
    if min(q.shape[1:3]) < kernel_size * dilation:
        raise BackboneError(
            f'neighborhood_attention: map of {q.shape[1]}x{q.shape[2]} tokens; pad it to at least '
            f'kernel_size * dilation = {kernel_size * dilation} on both sides'
        )


@torch.compiler.assume_constant_result
def implementation(device: str, dtype: torch.dtype) -> str:
    """Return `numba`, `triton` or `reference`; see `implementation_of`."""
    return implementation_of(*OPERATOR, device, dtype)


def _kernels(device: str) -> ModuleType | None:
    return fast_path(device, *OPERATOR)
