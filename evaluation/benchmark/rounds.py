"""Passes of all rows in turn, so that the drift of a shared machine hits all alike."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from evaluation.benchmark.cost import Cost
from evaluation.benchmark.failures import failures_explained
from evaluation.benchmark.pass_memory import peak_memory
from evaluation.benchmark.passes import Mode, time_pass
from evaluation.benchmark.peak import MatrixProduct
from evaluation.benchmark.sizes import Size
from evaluation.benchmark.subjects import Subject
from evaluation.utils.memory import OutOfMemoryError, out_of_memory_raised

# Before the rounds: the first, which compiles and fills caches, one for the memory, and one more.
UNTIMED_PASSES = 3

# Called with the name of what has just run.
Progress = Callable[[str], None]


@dataclass
class Measurement:
    """Raw figures of a row at one size.

    Attributes:
        name: of the row.
        cost: its parameters and FLOPs.
        seconds: of one pass in each round.
        first_pass_seconds: of the very first pass, compilation included.
        memory_bytes: see `peak_memory`.
        ran_out_of_memory: whether an allocation was refused; then the three before are empty or None.
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

    def __init__(self, subject: Subject, size: Size, mode: Mode) -> None:
        self.figures = Measurement(subject.name, subject.cost(size))
        self._subject = subject
        self._size = size
        self._mode = mode
        self._module: nn.Module | None = None

    def warm_up(self, images: Tensor | None, progress: Progress) -> None:
        """Build the network, run the untimed passes and measure the memory.

        Args:
            images: (B, 3, H, W); None where memory has no room for them, and so none for the row.
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
        """Note that memory ran out, and give back what the network holds."""
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


def build(subject: Subject, size: Size, mode: Mode) -> nn.Module:
    """A subject's network on the device, in the state that the mode asks for."""
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
    """Time all rows and the matrix product, each once a round, in an order drawn anew every round.

    Args:
        rows: ready to be timed; they keep their times.
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
