"""One pass of a network or one matrix product: batch sizes, modes, duration, memory, failures."""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.autograd.profiler import profile

from evaluation.engine.experiment import TOO_FEW_VALUES
from evaluation.utils.devices import synchronize
from evaluation.utils.errors import UserError

# Coarsest stride of the backbones, and their smallest image side.
STRIDE = 32
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
MEMORY_NOTE = (
    'Memory: peak size of tensors in one pass, beyond weights and images, as counted by the allocator'
)
# Rows share code, which is compiled again for the dims, depths and size of each row.
_MOST_VERSIONS = 4096
_NO_KERNEL = 'not implemented for'
SIDES = {'cpu': 4096, 'cuda': 8192}
# CPUs without instructions for a dtype need minutes for the default side.
LONGEST_SECONDS = 20.0
_TRIAL_SIDE = 512


@dataclass(frozen=True)
class Size:
    """A batch of images of `height` and `width` pixels."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        images = 'image' if self.batch == 1 else 'images'
        return f'{self.batch} {images} of {self.height}x{self.width} (height x width)'

    @property
    def pixels(self) -> int:
        """Number of pixels of all images."""
        return self.batch * self.height * self.width


def growing_sizes(shapes: Sequence[tuple[int, int]], batches: Sequence[int]) -> list[Size]:
    """Return every size once, the smallest first.

    Args:
        shapes: heights and widths.
        batches: numbers of images.

    Raises:
        UserError: both have several values, so growth could not be attributed to either.
    """
    if len(set(shapes)) > 1 and len(set(batches)) > 1:
        raise UserError('both --side and --batch have several values; vary only one of them')
    sizes = {Size(batch, *shape) for shape in shapes for batch in batches}
    return sorted(sizes, key=lambda size: size.pixels)


def smaller_sizes(size: Size) -> list[Size]:
    """Return sizes to try instead of one that does not fit, the smallest first.

    They are single images with sides halved to multiples of 32, then halved batches at full sides.
    """
    shapes = [(size.height, size.width)]
    while max(shapes[-1]) > STRIDE:
        shapes.append(tuple(_halved(side) for side in shapes[-1]))
    batches = [size.batch]
    while batches[-1] > 1:
        batches.append(batches[-1] // 2)
    smaller = [replace(size, batch=batch) for batch in batches[1:]]
    smaller += [Size(1, *shape) for shape in shapes[1:]]
    return smaller[::-1]


def _halved(side: int) -> int:
    return min(side, max(STRIDE, -(-side // (2 * STRIDE)) * STRIDE))


@dataclass(frozen=True)
class Mode:
    """Settings of a pass.

    Attributes:
        device: device to run on.
        dtype: key of `DTYPES`. Weights are fp32; other dtypes use autocast, as in mixed precision.
        backward: run forward and backward in train mode; else forward in eval mode, without gradients.
        compiled: run backbones through `torch.compile`.
    """

    device: torch.device
    dtype: str = 'fp32'
    backward: bool = False
    compiled: bool = False

    @property
    def flops_per_forward(self) -> int:
        """FLOPs of a pass relative to its forward: backward has two products for each one."""
        return 3 if self.backward else 1


def run_pass(module: nn.Module, images: Tensor, mode: Mode) -> None:
    """Run one pass; after a backward pass, the parameters keep their gradients.

    Args:
        module: network whose outputs are tensors, or lists, tuples and dicts of them. The loss is the
            sum of the means of all outputs.
        images: (B, 3, H, W), fp32.
        mode: settings of the pass.
    """
    dtype = DTYPES[mode.dtype]
    autocast = torch.autocast(mode.device.type, dtype, enabled=dtype != torch.float32)
    with torch.set_grad_enabled(mode.backward):
        with autocast:
            outputs = module(images)
        if mode.backward:
            torch.stack([output.float().mean() for output in tensors_of(outputs)]).sum().backward()


def time_pass(module: nn.Module, images: Tensor, mode: Mode) -> float:
    """Return the seconds of one pass; clear gradients after the clock has stopped."""
    seconds = seconds_of(lambda: run_pass(module, images, mode), mode.device)
    module.zero_grad(set_to_none=True)
    return seconds


def seconds_of(action: Callable[[], None], device: torch.device) -> float:
    """Return the seconds until an action is complete on a device."""
    synchronize(device)
    start = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - start


def tensors_of(outputs: object) -> list[Tensor]:
    """Return all tensors in nested lists, tuples and dicts."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, (list, tuple)):
        return [tensor for output in outputs for tensor in tensors_of(output)]
    return []


def random_images(size: Size, device: torch.device, seed: int) -> Tensor:
    """Return normally distributed images, (B, 3, H, W); a seed gives the same images on any device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size.batch, 3, size.height, size.width, generator=generator).to(device)


def peak_memory(module: nn.Module, images: Tensor, mode: Mode) -> int:
    """Return the peak bytes of tensors during one pass, beyond those allocated before it.

    On a GPU the allocator tracks the maximum. On the CPU it reports every allocation and release to
    PyTorch's profiler, and the maximum of their running sum is the same figure.
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
    return peak_on_cpu(lambda: run_pass(module, images, mode))


def peak_on_cpu(action: Callable[[], None]) -> int:
    """Return the peak bytes of tensors on the CPU during an action, beyond those allocated before it."""
    # Without a GPU, CUDA builds would print a warning.
    os.environ.setdefault('KINETO_LOG_LEVEL', '5')
    with warnings.catch_warnings(), profile(use_cpu=True, profile_memory=True) as profiler:
        warnings.simplefilter('ignore')
        action()
    changes = [event for event in profiler.kineto_results.events() if event.name() == '[memory]']
    if not changes:
        raise RuntimeError("PyTorch's profiler recorded no allocation")
    changes.sort(key=lambda event: event.start_ns())
    return highest_level(event.nbytes() for event in changes)


def highest_level(changes: Iterable[int]) -> int:
    """Return the maximum of a running sum that starts at 0."""
    level = highest = 0
    for change in changes:
        level += change
        highest = max(highest, level)
    return highest


@contextmanager
def compiled_throughout() -> Iterator[None]:
    """Compile every row; by default, rows beyond the recompile limit silently run uncompiled."""
    limits = {
        'recompile_limit': _MOST_VERSIONS,
        'accumulated_recompile_limit': _MOST_VERSIONS,
        'fail_on_recompile_limit_hit': True,
    }
    with torch._dynamo.config.patch(limits):
        yield


@contextmanager
def failures_explained(name: str, size: Size, mode: Mode) -> Iterator[None]:
    """Turn failures of the device, the batch or the compiler into errors that name the row.

    Args:
        name: name of the row.
        size: size of the batch.
        mode: mode of the pass.

    Raises:
        UserError: the device has no kernel for the dtype, a batch norm gets too few values to train, or
            the compiler failed.
    """
    try:
        yield
    except BackendCompilerFailed as error:
        reason = ' '.join(str(error.inner_exception).split('\n\n')[0].split())
        raise UserError(f'{name} cannot be compiled: {reason}; omit --compile') from error
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ''
        if TOO_FEW_VALUES in reason:
            raise UserError(
                f'{name} cannot train on {size}: a batch norm gets one value per channel; '
                'give more images with --batch'
            ) from error
        if _NO_KERNEL in reason:
            raise UserError(f'{name} does not run in {mode.dtype} on {mode.device}: {reason}') from error
        raise


class MatrixProduct:
    """Product of two square matrices, in the dtype of a mode and without autocast.

    Args:
        side: side of the matrices; None for 8192 on a GPU, and 4096 on the CPU, or less if that would
            take longer than 20 s.
        mode: device and dtype.

    Raises:
        UserError: the matrices do not fit into memory.
    """

    name = 'matrix product'

    def __init__(self, side: int | None, mode: Mode) -> None:
        self.side = side or affordable_side(mode)
        self._device = mode.device
        try:
            self._factors = [_random_square(self.side, mode) for _ in range(2)]
            self._product = torch.empty_like(self._factors[0])
        except (RuntimeError, MemoryError) as error:
            raise UserError(
                f'matrices of {self.side}x{self.side} for the peak do not fit into memory; '
                'give a smaller --matrix-side'
            ) from error

    @property
    def flops(self) -> int:
        """Multiply-adds of one product."""
        return self.side**3

    def time(self) -> float:
        """Return the seconds of one product."""
        return seconds_of(lambda: torch.mm(*self._factors, out=self._product), self._device)


def affordable_side(mode: Mode) -> int:
    """Return the default side for a device, halved until a product should take at most 20 s."""
    side = SIDES[mode.device.type]
    trial = MatrixProduct(_TRIAL_SIDE, mode)
    trial.time()
    seconds_per_flop = trial.time() / trial.flops
    while side > _TRIAL_SIDE and seconds_per_flop * side**3 > LONGEST_SECONDS:
        side //= 2
    return side


def _random_square(side: int, mode: Mode) -> torch.Tensor:
    generator = torch.Generator(mode.device).manual_seed(0)
    return torch.randn(side, side, generator=generator, device=mode.device).to(DTYPES[mode.dtype])
