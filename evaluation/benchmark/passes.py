"""One pass of a network over a batch: what it is, and how long it takes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluation.benchmark.sizes import Size
from evaluation.utils.devices import synchronize

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


@dataclass(frozen=True)
class Mode:
    """How subjects run.

    Attributes:
        device: where.
        dtype: of `DTYPES`. Weights are fp32; other dtypes are autocast, as in mixed-precision trainings.
        backward: forward and backward in train mode; else forward in eval mode, without gradients.
        compiled: whether backbones run through `torch.compile`.
    """

    device: torch.device
    dtype: str = 'fp32'
    backward: bool = False
    compiled: bool = False

    @property
    def flops_per_forward(self) -> int:
        """FLOPs of a pass over those of its forward: a backward pass has two products for each one."""
        return 3 if self.backward else 1


def run_pass(module: nn.Module, images: Tensor, mode: Mode) -> None:
    """Run once; gradients of the parameters are left behind where there is a backward pass.

    Args:
        module: whose outputs are tensors, or lists, tuples and dicts of them. The loss is the sum of the
            outputs' means.
        images: (B, 3, H, W), fp32.
        mode: how to run.
    """
    dtype = DTYPES[mode.dtype]
    autocast = torch.autocast(mode.device.type, dtype, enabled=dtype != torch.float32)
    with torch.set_grad_enabled(mode.backward):
        with autocast:
            outputs = module(images)
        if mode.backward:
            torch.stack([output.float().mean() for output in tensors_of(outputs)]).sum().backward()


def time_pass(module: nn.Module, images: Tensor, mode: Mode) -> float:
    """Seconds of one pass; gradients are dropped after the clock has stopped."""
    seconds = seconds_of(lambda: run_pass(module, images, mode), mode.device)
    module.zero_grad(set_to_none=True)
    return seconds


def seconds_of(action: Callable[[], None], device: torch.device) -> float:
    """Seconds until an action is done on a device."""
    synchronize(device)
    start = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - start


def tensors_of(outputs: object) -> list[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        return [tensor for output in outputs for tensor in tensors_of(output)]
    return []


def random_images(size: Size, device: torch.device, seed: int) -> Tensor:
    """Images of normally distributed values, (B, 3, H, W), from a seed, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size.batch, 3, size.height, size.width, generator=generator).to(device)
