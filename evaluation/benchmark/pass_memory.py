"""How much memory a pass takes."""

import os
import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

from evaluation.benchmark.passes import Mode, run_pass

MEMORY_NOTE = (
    'Memory: at the peak of one pass, what tensors take beyond weights and images, as the allocator '
    'counts it'
)


def peak_memory(module: nn.Module, images: Tensor, mode: Mode) -> int:
    """Bytes that tensors take at the peak of one pass, beyond those that were there before it.

    On a GPU the allocator itself keeps the maximum. On the CPU it reports every allocation and release
    to PyTorch's profiler, and the maximum of their running sum is the same figure.
    """
    measure = _peak_on_gpu if mode.device.type == 'cuda' else _peak_on_cpu
    peak = measure(module, images, mode)
    module.zero_grad(set_to_none=True)
    return peak


def _peak_on_gpu(module: nn.Module, images: Tensor, mode: Mode) -> int:
    before = torch.cuda.memory_allocated(mode.device)
    torch.cuda.reset_peak_memory_stats(mode.device)
    run_pass(module, images, mode)
    return torch.cuda.max_memory_allocated(mode.device) - before


def _peak_on_cpu(module: nn.Module, images: Tensor, mode: Mode) -> int:
    # Without a GPU, builds for CUDA say that they find none.
    os.environ.setdefault('KINETO_LOG_LEVEL', '5')
    with warnings.catch_warnings(), profile(use_cpu=True, profile_memory=True) as profiler:
        warnings.simplefilter('ignore')
        run_pass(module, images, mode)
    changes = [event for event in profiler.kineto_results.events() if event.name() == '[memory]']
    if not changes:
        raise RuntimeError("PyTorch's profiler recorded no allocation")
    changes.sort(key=lambda event: event.start_ns())
    return highest_level(event.nbytes() for event in changes)


def highest_level(changes: Iterable[int]) -> int:
    """The maximum of a running sum that starts at 0."""
    level = highest = 0
    for change in changes:
        level += change
        highest = max(highest, level)
    return highest
