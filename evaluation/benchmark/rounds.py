"""Rounds of passes: all rows and a large matrix product in turn, so that drift affects all equally."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed

from evaluation.benchmark.passes import DTYPES, Mode, Size, peak_memory, seconds_of, time_pass
from evaluation.benchmark.subjects import Cost, TimedSubject
from evaluation.engine.experiment import TOO_FEW_VALUES
from evaluation.utils.errors import UserError
from evaluation.utils.memory import OutOfMemoryError, out_of_memory_raised

# Rows share code, which is compiled again for the dims, depths and size of each.
_MOST_VERSIONS = 4096
_NO_KERNEL = 'not implemented for'
SIDES = {'cpu': 4096, 'cuda': 8192}
# Processors without instructions for a dtype need minutes for the usual side.
LONGEST_SECONDS = 20.0
_TRIAL_SIDE = 512
# Passes before the rounds: one that compiles and fills caches, one that measures memory, one more.
UNTIMED_PASSES = 3
# Called with the name of the row that has just run.
Progress = Callable[[str], None]


@contextmanager
def compiled_throughout() -> Iterator[None]:
    """Compile every row; by default, rows beyond a recompile limit silently run uncompiled."""
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
        name: of the row.
        size: of the batch.
        mode: how it runs.

    Raises:
        UserError: the device has no kernel for the dtype, a batch norm has too little to train on, or
            the compiler failed.
    """
    try:
        yield
    except BackendCompilerFailed as error:
        reason = ' '.join(str(error.inner_exception).split('\n\n')[0].split())
        raise UserError(f'{name} cannot be compiled: {reason}; leave out --compile') from error
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ''
        if TOO_FEW_VALUES in reason:
            raise UserError(
                f'{name} cannot train on {size}: a batch norm gets one value a channel; '
                'give more images with --batch'
            ) from error
        if _NO_KERNEL in reason:
            raise UserError(f'{name} does not run in {mode.dtype} on {mode.device}: {reason}') from error
        raise


class MatrixProduct:
    """The product of two square matrices, in the dtype of a mode and without autocast.

    Args:
        side: of the matrices; None for 4096 on the CPU, or less where that would take longer than 20 s,
            and 8192 on a GPU.
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
                'give fewer with --matrix-side'
            ) from error

    @property
    def flops(self) -> int:
        """Multiply-adds of one product."""
        return self.side**3

    def time(self) -> float:
        """Return the seconds of one product."""
        return seconds_of(lambda: torch.mm(*self._factors, out=self._product), self._device)


def affordable_side(mode: Mode) -> int:
    """Return the usual side for a device, halved until a product should take at most 20 s."""
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


@dataclass
class Measurement:
    """Raw figures of a row at one size.

    Attributes:
        name: of the row.
        cost: its parameters and FLOPs.
        seconds: of one pass in each round.
        first_pass_seconds: of the very first pass, compilation included.
        memory_bytes: see `peak_memory`.
        ran_out_of_memory: whether an allocation failed; then the three figures above are empty or None.
    """

    name: str
    cost: Cost
    seconds: list[float] = field(default_factory=list)
    first_pass_seconds: float | None = None
    memory_bytes: int | None = None
    ran_out_of_memory: bool = False


@dataclass
class Measurements:
    """Raw figures of all rows at one size.

    Attributes:
        size: of the batch.
        rows: in the order of the subjects.
        matrix_side: of the matrices whose product is the peak.
        matrix_seconds: of one product in each round.
    """

    size: Size
    rows: list[Measurement]
    matrix_side: int
    matrix_seconds: list[float] = field(default_factory=list)


class Row:
    """A subject at one size: its network, and the figures that its passes fill."""

    def __init__(self, subject: TimedSubject, size: Size, mode: Mode) -> None:
        self.figures = Measurement(subject.name, subject.cost(size))
        self._subject = subject
        self._size = size
        self._mode = mode
        self._module: nn.Module | None = None

    def warm_up(self, images: Tensor | None, progress: Progress) -> None:
        """Build the network, run the untimed passes and measure the memory.

        Args:
            images: (B, 3, H, W); None if they do not fit into memory, so that the row fails.
            progress: called after every pass, `UNTIMED_PASSES` times.
        """
        if images is None:
            self.fail()
            return

        def passes() -> None:
            self._module = build(self._subject, self._size, self._mode)
            self.figures.first_pass_seconds = time_pass(self._module, images, self._mode)
            progress(self.figures.name)
            self.figures.memory_bytes = peak_memory(self._module, images, self._mode)
            progress(self.figures.name)
            time_pass(self._module, images, self._mode)
            progress(self.figures.name)

        self._unless_memory_runs_out(passes)

    def time(self, images: Tensor, progress: Progress) -> None:
        """Time one pass, unless memory has run out."""

        def timed_pass() -> None:
            self.figures.seconds.append(time_pass(self._module, images, self._mode))

        if self._module is not None:
            self._unless_memory_runs_out(timed_pass)
        progress(self.figures.name)

    def fail(self) -> None:
        """Record that memory ran out, and free the network."""
        self._module = None
        self.figures = Measurement(self.figures.name, self.figures.cost, ran_out_of_memory=True)

    def _unless_memory_runs_out(self, action: Callable[[], None]) -> None:
        try:
            with (
                out_of_memory_raised(self._mode.device),
                failures_explained(self.figures.name, self._size, self._mode),
            ):
                action()
        except OutOfMemoryError:
            self.fail()


def build(subject: TimedSubject, size: Size, mode: Mode) -> nn.Module:
    """Build a subject's network on the device, in the state for the mode."""
    module = subject.build(size).to(mode.device).train(mode.backward)
    if mode.compiled:
        subject.part_to_compile(module).compile(dynamic=False)
    return module


def timed_rounds(
    rows: Sequence[Row],
    images: Tensor,
    product: MatrixProduct,
    rounds: int,
    seed: int,
    progress: Progress,
) -> list[float]:
    """Time all rows and the matrix product, each once per round, in a new random order every round.

    Args:
        rows: warmed up; they store their times.
        images: (B, 3, H, W).
        product: the peak.
        rounds: how many.
        seed: of the order.
        progress: called after every pass and product, `len(rows) + 1` times a round and once before.

    Returns:
        Seconds of the product in each round.
    """
    product.time()
    progress(product.name)
    seconds = []
    order = random.Random(seed)
    for _ in range(rounds):
        for runner in order.sample([product, *rows], len(rows) + 1):
            if runner is product:
                seconds.append(product.time())
                progress(product.name)
            else:
                runner.time(images, progress)
    return seconds
