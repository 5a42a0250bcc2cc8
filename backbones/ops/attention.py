"""Memory-efficient attention to a neighborhood or to all tokens.

GPUs and `torch.compile` use PyTorch's fused attention. The CPU has its own operators, which read windows
directly from the map, in inference and in training.
"""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from backbones.errors import BackboneError
from backbones.ops import attention_reference
from backbones.ops.fast_paths import fast_path
from backbones.ops.gradients import gradients_by_autograd
from backbones.ops.tracing import is_traced


def halo_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height_rel: Tensor,
    width_rel: Tensor,
    block_size: int,
    halo_size: int,
) -> Tensor:
    """Compute attention of each block of queries to the window around it (arXiv 2103.12731, section 3).

    The map is zero-padded at the right and bottom to whole blocks. The padding is attended to; keys
    farther outside are not.

    Args:
        q, k, v: (B, H, W, heads, D).
        height_rel, width_rel: (2 * window_size - 1, D), relative position embeddings; their products
            with the unscaled queries are added to the logits. window_size is block_size + 2 * halo_size.
        block_size: side of a block of queries, in tokens.
        halo_size: distance that a window extends beyond its block, in tokens.

    Returns:
        (B, H, W, heads, D).

    Raises:
        BackboneError: the shapes do not match.
    """
    table = (2 * (block_size + 2 * halo_size) - 1, q.shape[-1])
    fits = q.dim() == 5 and q.shape == k.shape == v.shape
    if not (fits and height_rel.shape == width_rel.shape == table):
        raise _mismatch('halo_attention', q, k, v, height_rel, width_rel)
    arguments = (q, k, v, height_rel, width_rel, block_size, halo_size)
    if not _compiled_serves(q, k, v):
        return attention_reference.halo_attention(*arguments)
    return _TrainedHalo.apply(*arguments) if torch.is_grad_enabled() else _halo(*arguments)


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window_size: int, shift: int
) -> Tensor:
    """Compute attention within windows of a cyclically shifted map (arXiv 2103.14030, section 3.2).

    Tokens that are neighbors only because of the shift do not attend to each other.

    Args:
        q, k, v: (B, H, W, heads, D), H and W multiples of `window_size`.
        bias: (heads, window_size ** 2, window_size ** 2), added to the logits.
        window_size: side of a window, in tokens.
        shift: distance that windows move right and down, in tokens; less than `window_size`.

    Returns:
        (B, H, W, heads, D).

    Raises:
        BackboneError: the shapes do not match, or `shift` is not less than `window_size`.
    """
    fits = q.dim() == 5 and q.shape == k.shape == v.shape and 0 <= shift < window_size
    if not (
        fits
        and q.shape[1] % window_size == q.shape[2] % window_size == 0
        and bias.shape == (q.shape[3], window_size**2, window_size**2)
    ):
        raise _mismatch(f'window_attention, window_size={window_size}, shift={shift}', q, k, v, bias)
    arguments = (q, k, v, bias, window_size, shift)
    if not _compiled_serves(q, k, v):
        return attention_reference.window_attention(*arguments)
    return _TrainedWindows.apply(*arguments) if torch.is_grad_enabled() else _windows(*arguments)


def global_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention of all queries to all keys.

    Args:
        q: (B, N, heads, D).
        k, v: (B, M, heads, D).

    Returns:
        (B, N, heads, D).

    Raises:
        BackboneError: the shapes do not match.
    """
    if not (q.dim() == k.dim() == 4 and k.shape == v.shape and k[:, :0].shape == q[:, :0].shape):
        raise _mismatch('global_attention', q, k, v)
    # PyTorch's attention is as fast in float32.
    wanted = q.dtype == torch.bfloat16 and not torch.is_grad_enabled()
    if wanted and _compiled_serves(q, k, v):
        return _global(q, k, v)
    return attention_reference.global_attention(q, k, v)


def _mismatch(name: str, *tensors: Tensor) -> BackboneError:
    shapes = ', '.join(str(tuple(tensor.shape)) for tensor in tensors)
    return BackboneError(f'{name}: shapes {shapes} do not match')


@torch.library.custom_op('dense_mixers::halo_attention', mutates_args=())
def _halo(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    height_rel: Tensor,
    width_rel: Tensor,
    block_size: int,
    halo_size: int,
) -> Tensor:
    return _kernels().halo_attention(q, k, v, height_rel, width_rel, block_size, halo_size)


@torch.library.custom_op('dense_mixers::window_attention', mutates_args=())
def _windows(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window_size: int, shift: int) -> Tensor:
    return _kernels().window_attention(q, k, v, bias, window_size, shift)


@torch.library.custom_op('dense_mixers::global_attention', mutates_args=())
def _global(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _kernels().global_attention(q, k, v)


class _TrainedHalo(torch.autograd.Function):
    """Halo attention by the CPU's own operators; autograd keeps no windows in memory."""

    @staticmethod
    @torch.amp.custom_fwd(device_type='cpu')
    def forward(ctx, *arguments: Tensor | int) -> Tensor:
        *tensors, ctx.block_size, ctx.halo_size = arguments
        ctx.save_for_backward(*tensors)
        return _halo(*arguments)

    @staticmethod
    @torch.amp.custom_bwd(device_type='cpu')
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        options = ctx.block_size, ctx.halo_size
        module = fast_path('cpu', 'halo_gradients', 'attention')
        own = module.halo_gradients if module.serves(*options) else None
        return _gradients(ctx, grad, options, own, attention_reference.on_cut_windows)


class _TrainedWindows(torch.autograd.Function):
    """Window attention by the CPU's own operators; autograd keeps no attention weights in memory."""

    @staticmethod
    @torch.amp.custom_fwd(device_type='cpu')
    def forward(ctx, *arguments: Tensor | int) -> Tensor:
        *tensors, ctx.window_size, ctx.shift = arguments
        ctx.save_for_backward(*tensors)
        return _windows(*arguments)

    @staticmethod
    @torch.amp.custom_bwd(device_type='cpu')
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        options = ctx.window_size, ctx.shift
        own = fast_path('cpu', 'window_gradients', 'attention').window_gradients
        return _gradients(ctx, grad, options, own, attention_reference.window_attention)


def _gradients(
    ctx,
    grad: Tensor,
    options: tuple[int, int],
    own: Callable[..., tuple[Tensor, ...]] | None,
    reference: Callable[..., Tensor],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the saved tensors, then None for both options.

    Args:
        own: the CPU's operator; None if it does not support these options.
        reference: the same attention in PyTorch, which supports double differentiation.
    """
    tensors = ctx.saved_tensors
    needed = ctx.needs_input_grad[: len(tensors)]
    if own is None or torch.is_grad_enabled():
        found = gradients_by_autograd(lambda *x: reference(*x, *options), tensors, needed, grad)
        return *found, None, None
    found = own(grad, *tensors, *options)
    return *(x if need else None for x, need in zip(found, needed, strict=True)), None, None


for operator in (_halo, _windows, _global):
    operator.register_fake(lambda q, *_: q.new_empty(q.shape))


@register_flop_formula(torch.ops.dense_mixers.halo_attention)
def _halo_flops(q, k, v, height_rel, width_rel, block_size, halo_size, *_, **__) -> int:
    batch, height, width, heads, dim = q
    queries = batch * heads * -(-height // block_size) * -(-width // block_size) * block_size**2
    window = block_size + 2 * halo_size
    # Keys and values, then the two tables of relative positions.
    return 2 * queries * dim * (2 * window**2 + 2 * window)


@register_flop_formula(torch.ops.dense_mixers.window_attention)
def _window_flops(q, k, v, bias, window_size, *_, **__) -> int:
    return 2 * q.numel() * 2 * window_size**2


@register_flop_formula(torch.ops.dense_mixers.global_attention)
def _global_flops(q, k, *_, **__) -> int:
    return 2 * q.numel() * 2 * k[1]


def _compiled_serves(*tensors: Tensor) -> bool:
    """Return whether the CPU's own operators support these tensors."""
    return (
        all(x.device.type == 'cpu' and x.numel() for x in tensors)
        and all(x.dtype in (torch.float32, torch.bfloat16) and x.stride(-1) == 1 for x in tensors)
        and all(_evenly_spaced(x) for x in tensors)
        and not is_traced()
        and _kernels() is not None
    )


def _evenly_spaced(x: Tensor) -> bool:
    """Return whether the tokens of all images have one constant stride in memory."""
    distance = x.stride(-3)
    for axis in reversed(range(x.dim() - 2)):
        if x.shape[axis] > 1 and x.stride(axis) != distance:
            return False
        distance *= x.shape[axis]
    return True


def _kernels() -> ModuleType | None:
    """Return the CPU's operators; None to use plain PyTorch."""
    return fast_path('cpu', 'attention', 'attention')
