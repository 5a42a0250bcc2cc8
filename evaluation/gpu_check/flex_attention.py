"""Compiled FlexAttention beside the suite's halo and neighborhood attention: same results, time of both.

FlexAttention replaces an operator if it is `ADOPTED_AT` times as fast with backward at every size.
"""

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from backbones.ops import attention, neighborhood_attention
from evaluation.benchmark.passes import seconds_of
from evaluation.gpu_check.checks import Check, Settings, SkippedCheckError, check_errors, named
from evaluation.gpu_check.operators import BOUNDS, output_and_gradients
from evaluation.utils.devices import current

ADOPTED_AT = 1.2
# (B, H, W) of stages 1 and 2 in the batch of detection; the second stage has twice the heads.
MAPS = {'stage 1': (8, 200, 320), 'stage 2': (8, 100, 160)}
QUICK_MAPS = {'stage 1': (1, 17, 23)}
# Heads of the first stage of halo_tiny and nat_tiny, and channels of a head.
HALO_HEADS, NAT_HEADS, DIM = 3, 2, 32
BLOCK_SIZE, HALO_SIZE, KERNEL_SIZE = 7, 3, 7
REPEATS = 10


@dataclass(frozen=True)
class Contest:
    """An operator in two formulations, for maps of one size.

    Attributes:
        ours, flex: functions of the same tensors: q, k and v, then parameters.
        tables: shapes of the parameters.
        table_dtype: dtype of the parameters; None for that of the maps.
    """

    ours: Callable[..., Tensor]
    flex: Callable[..., Tensor]
    tables: Sequence[tuple[int, ...]]
    table_dtype: torch.dtype | None


def checks(settings: Settings) -> list[Check]:
    """Return a check for each formulation."""
    return [
        Check(f'FlexAttention, {name}', partial(compare, name, settings, *CONTESTS[name]))
        for name in CONTESTS
    ]


def halo_contest(height: int, width: int, heads: int, dim: int, device: torch.device) -> Contest:
    """Return halo attention; in FlexAttention, its relative positions are additional channels."""
    from evaluation.gpu_check import flex_formulations

    layout = flex_formulations.halo_layout(height, width, BLOCK_SIZE, HALO_SIZE, device)
    mask = layout.block_mask(block_of(device, dim + 2 * layout.window))
    sizes = BLOCK_SIZE, HALO_SIZE
    return Contest(
        lambda *tensors: attention.halo_attention(*tensors, *sizes),
        lambda *tensors: flex_formulations.halo(*tensors, *sizes, layout, mask),
        [(2 * layout.window - 1, dim)] * 2,
        None,
    )


def nat_contest(
    is_table: bool, height: int, width: int, heads: int, dim: int, device: torch.device
) -> Contest:
    """Return neighborhood attention; FlexAttention gets the bias as a table or as channels."""
    from evaluation.gpu_check import flex_formulations

    layout = flex_formulations.neighborhood_layout(height, width, KERNEL_SIZE, device)
    mask = layout.block_mask(block_of(device, dim if is_table else dim + KERNEL_SIZE**2))
    by_table, by_channels = flex_formulations.neighborhood_by_table, flex_formulations.neighborhood
    compute = by_table if is_table else by_channels
    return Contest(
        lambda *tensors: neighborhood_attention.neighborhood_attention(*tensors, KERNEL_SIZE),
        lambda *tensors: compute(*tensors, layout, mask),
        [(heads, 2 * KERNEL_SIZE - 1, 2 * KERNEL_SIZE - 1)],
        torch.float32,
    )


# How to build each contest, and its number of heads in the first stage.
CONTESTS = {
    'halo': (halo_contest, HALO_HEADS),
    'nat, bias as a table': (partial(nat_contest, True), NAT_HEADS),
    'nat, bias as channels': (partial(nat_contest, False), NAT_HEADS),
}


def block_of(device: torch.device, channels: int) -> int:
    """Return the size of the blocks of a mask: the smallest that has a backward pass.

    As of PyTorch 2.11, whose default tiles must divide the blocks, even if options choose smaller tiles.
    """
    if device.type != 'cuda':
        return 128
    major, minor = torch.cuda.get_device_capability(device)
    has_small_tiles = (channels < 64 and (major, minor) == (9, 0)) or (channels >= 64 and major == 8)
    return 64 if has_small_tiles else 128


def inputs(
    contest: Contest, size: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> list[Tensor]:
    """Return random tensors; parameters have the scale of a new network, so that logits stay small."""
    maps = [torch.randn(size, device=device).to(dtype) for _ in range(3)]
    table_dtype = contest.table_dtype or dtype
    tables = [torch.randn(shape, device=device) * size[-1] ** -0.5 for shape in contest.tables]
    return [*maps, *(table.to(table_dtype) for table in tables)]


def compare(
    name: str, settings: Settings, build: Callable[..., Contest], first_heads: int
) -> dict[str, object]:
    """Compare results and time of both formulations, at each size.

    Raises:
        FailedCheckError: outputs or gradients differ.
        SkippedCheckError: FlexAttention cannot be compiled here.
    """
    check_compiles(settings)
    device = torch.device(settings.device)
    found = {}
    with current(device):
        for number, (stage, size) in enumerate((QUICK_MAPS if settings.quick else MAPS).items()):
            heads = first_heads * 2**number
            contest = build(*size[1:], heads, DIM, device)
            tensors = inputs(contest, (*size, heads, DIM), device, torch.bfloat16)
            found[stage] = time_both(contest, tensors, device)
    least = min(figures['training']['speedup'] for figures in found.values())
    return {**found, 'least_speedup': least, 'is_adopted': least >= ADOPTED_AT}


def check_compiles(settings: Settings) -> None:
    """Check that FlexAttention can be compiled.

    Raises:
        SkippedCheckError: it cannot.
    """
    if not settings.is_gpu:
        raise SkippedCheckError('FlexAttention is dense without a GPU; tests compare its results')
    if importlib.util.find_spec('triton') is None:
        raise SkippedCheckError('FlexAttention needs Triton')
    try:
        importlib.import_module('torch.nn.attention.flex_attention')
    except ImportError as error:
        raise SkippedCheckError(f'this PyTorch has no FlexAttention: {error}') from error


def time_both(contest: Contest, tensors: Sequence[Tensor], device: torch.device) -> dict[str, object]:
    """Compare both formulations, then time them in turn, forward and with backward.

    Raises:
        FailedCheckError: outputs or gradients differ.
    """
    flex = torch.compile(contest.flex, dynamic=False, fullgraph=True)
    start = time.perf_counter()
    results = output_and_gradients(flex, tensors)
    figures: dict[str, object] = {'first_pass_seconds': time.perf_counter() - start}
    figures |= compared(results, output_and_gradients(contest.ours, tensors))
    leaves = [tensor.requires_grad_() for tensor in tensors]
    grad = torch.ones_like(results[0])
    for passes, is_backward in (('forward', False), ('training', True)):
        ours, theirs = seconds_in_turn((contest.ours, flex), leaves, grad, is_backward, device)
        figures[passes] = {
            'milliseconds': 1000 * ours,
            'flex_milliseconds': 1000 * theirs,
            'speedup': ours / theirs,
        }
    return figures


def compared(found: Sequence[Tensor], truth: Sequence[Tensor]) -> dict[str, float]:
    """Compare outputs and gradients; of maps only the last image, since the CPU compares them.

    Raises:
        FailedCheckError: they differ.
    """
    names = ['output', 'q', 'k', 'v', *(f'table {number}' for number in range(len(found) - 4))]
    found, truth = ([x[-1:] if x.dim() == 5 else x for x in each] for each in (found, truth))
    return check_errors(named(names, found, truth), BOUNDS['bf16'])


def seconds_in_turn(
    formulations: Sequence[Callable[..., Tensor]],
    leaves: Sequence[Tensor],
    grad: Tensor,
    is_backward: bool,
    device: torch.device,
) -> list[float]:
    """Return the median seconds of each formulation; all keep what a backward pass needs."""

    def once(compute: Callable[..., Tensor]) -> None:
        out = compute(*leaves)
        if is_backward:
            torch.autograd.grad(out, leaves, grad)

    seconds = [[] for _ in formulations]
    for repeat in range(REPEATS + 1):
        for compute, times in zip(formulations, seconds, strict=True):
            took = seconds_of(partial(once, compute), device)
            if repeat:
                times.append(took)
    return [statistics.median(times) for times in seconds]
