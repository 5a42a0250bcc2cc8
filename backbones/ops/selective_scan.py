"""Selective scan of a map in four directions as one operator (Liu et al., VMamba, arXiv 2401.10166).

There are three implementations: plain PyTorch (the reference), numba on the CPU, and Triton on CUDA.
"""

from types import ModuleType

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from backbones.errors import BackboneError
from backbones.ops import selective_scan_reference
from backbones.ops.fast_paths import fast_path, implementation_of
from backbones.ops.selective_scan_sizes import chunks

# Module of the fast paths, and name in warnings.
OPERATOR = ('selective_scan', 'selective scan')


def selective_scan(
    u: Tensor, projected: Tensor, step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor
) -> Tensor:
    """Scan a map in four directions, and return the sum of the four outputs.

    Direction 0 runs row by row, 1 column by column, 2 and 3 are 0 and 1 reversed. In each, with its own
    weights, a channel has a state h of S numbers, zero before the first position (Gu and Dao, Mamba,
    arXiv 2312.00752; B is discretized to first order)::

        h_l = exp(delta_l A) h_{l-1} + delta_l B_l u_l
        y_l = C_l h_l + D u_l
        delta_l = softplus(step_weight low_rank_l + step_bias), A = -exp(a_logs)

    Differentiable once (float64: any number of times); supports `torch.compile` and `torch.export`.
    Computed in float32 with inputs in half precision, and in float64 always by the reference. See
    `fast_paths` for the environment variables `DENSE_MIXERS_CPU` and `DENSE_MIXERS_CUDA`.

    Args:
        u: (B, H, W, D).
        projected: (B, H, W, 4, R + 2 S), low-rank step features, B and C of every direction.
        step_weight: (4, D, R).
        step_bias: (4, D).
        a_logs: (4 D, S); row k D + c is direction k, channel c.
        skips: D of the formula, (4 D,), in the same order.

    Returns:
        (B, H, W, D), in float32 or float64.

    Raises:
        BackboneError: the shapes do not match, or an environment variable has an unknown value.
    """
    tensors = (u, projected, step_weight, step_bias, a_logs, skips)
    check_shapes(*tensors)
    if implementation(u.device.type, u.dtype) == 'reference':
        return selective_scan_reference.forward(*tensors)
    return scan(*tensors)[0]


@torch.library.custom_op('dense_mixers::selective_scan', mutates_args=())
def scan(
    u: Tensor, projected: Tensor, step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute `selective_scan` with a compiled implementation, as one operator.

    Returns:
        The output, and the states before each chunk of positions, (B, 4, chunks, S, D).
    """
    tensors = (u, projected, step_weight, step_bias, a_logs, skips)
    return _kernels(u.device.type).forward(*tensors)


@torch.library.custom_op('dense_mixers::selective_scan_backward', mutates_args=())
def scan_backward(
    grad_out: Tensor,
    states: Tensor,
    u: Tensor,
    projected: Tensor,
    step_weight: Tensor,
    step_bias: Tensor,
    a_logs: Tensor,
    skips: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the inputs of `scan`, from that of its output and its states."""
    tensors = (u, projected, step_weight, step_bias, a_logs, skips)
    return _kernels(u.device.type).backward(grad_out, states, *tensors)


@scan.register_fake
def _(u, projected, step_weight, step_bias, a_logs, skips) -> tuple[Tensor, Tensor]:
    batch, height, width, dim = u.shape
    shape = (batch, 4, chunks(height * width), a_logs.shape[1], dim)
    return u.new_empty(u.shape, dtype=torch.float32), u.new_empty(shape, dtype=torch.float32)


@scan_backward.register_fake
def _(grad_out, states, *tensors) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)


def _keep_inputs(ctx, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1], *inputs)
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx, grad_out: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    return scan_backward(grad_out, *ctx.saved_tensors)


scan.register_autograd(_gradients, setup_context=_keep_inputs)


@register_flop_formula(torch.ops.dense_mixers.selective_scan)
def _flops(u_shape, projected_shape, step_weight_shape, *_, out_shape=None, **__) -> int:
    """Count four products per number of a state, one for D, and the projection of the step features.

    The four are for the logarithm of the decay, its product with the state, B and C; exponentials are
    not counted.
    """
    rank = step_weight_shape[2]
    states = (projected_shape[4] - rank) // 2
    return 2 * 4 * u_shape.numel() * (4 * states + 1 + rank)


def check_shapes(
    u: Tensor, projected: Tensor, step_weight: Tensor, step_bias: Tensor, a_logs: Tensor, skips: Tensor
) -> None:
    """Check the shapes; the compiled code does no bounds checks.

    Raises:
        BackboneError: the shapes are not those that `selective_scan` expects.
    """
    names = ('u', 'projected', 'step_weight', 'step_bias', 'a_logs', 'skips')
    shapes = [tuple(t.shape) for t in (u, projected, step_weight, step_bias, a_logs, skips)]
    dim, rank, states = u.shape[-1], step_weight.shape[-1], a_logs.shape[-1]
    expected = [
        (*u.shape[:3], dim),
        (*u.shape[:3], 4, rank + 2 * states),
        (4, dim, rank),
        (4, dim),
        (4 * dim, states),
        (4 * dim,),
    ]
    if shapes != expected:
        found = ', '.join(f'{name} {shape}' for name, shape in zip(names, shapes, strict=True))
        raise BackboneError(
            f'selective_scan: shapes do not match ({found}); expected (B, H, W, D), '
            '(B, H, W, 4, R + 2 S), (4, D, R), (4, D), (4 D, S) and (4 D,)'
        )


@torch.compiler.assume_constant_result
def implementation(device: str, dtype: torch.dtype) -> str:
    """Return `numba`, `triton` or `reference`; see `implementation_of`."""
    return implementation_of(*OPERATOR, device, dtype)


def _kernels(device: str) -> ModuleType | None:
    return fast_path(device, *OPERATOR)
