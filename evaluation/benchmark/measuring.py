"""Measure all subjects at all sizes; if memory runs out, find a size that fits.

All rows and a large matrix product run in turn, round after round, so that drift affects all equally.
"""

import random
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from torch import Tensor, nn
from tqdm import tqdm

from evaluation.benchmark.passes import (
    MatrixProduct,
    Mode,
    Size,
    compiled_throughout,
    failures_explained,
    peak_memory,
    random_images,
    smaller_sizes,
    time_pass,
)
from evaluation.benchmark.subjects import Cost, TimedSubject
from evaluation.utils.devices import (
    OutOfMemoryError,
    current,
    out_of_memory_raised,
    refused_beyond_free_memory,
)
from evaluation.utils.errors import UserError

# Passes before the rounds: one to compile and fill caches, one to measure memory, one to warm up again.
UNTIMED_PASSES = 3
# Called with the name of the row that has just run.
Progress = Callable[[str], None]
# A pass at twice the side takes at least four times as long; do not try one after a pass this long.
PATIENCE_SECONDS = 5.0


@dataclass
class Measurement:
    """Raw figures of a row at one size.

    Attributes:
        name: name of the row.
        cost: parameters and FLOPs.
        seconds: duration of one pass in each round.
        first_pass_seconds: duration of the first pass, including compilation.
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
        size: size of the batch.
        rows: figures of each row, in the order of the subjects.
        matrix_side: side of the matrices whose product defines the peak.
        matrix_seconds: duration of one product in each round.
    """

    size: Size
    rows: list[Measurement]
    matrix_side: int
    matrix_seconds: list[float] = field(default_factory=list)


class MeasuredRow:
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
            images: (B, 3, H, W); None if they do not fit into memory, which fails the row.
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
    """Build a subject's network on the device, set up for the mode."""
    module = subject.build(size).to(mode.device).train(mode.backward)
    if mode.compiled:
        subject.part_to_compile(module).compile(dynamic=False)
    return module


def timed_rounds(
    rows: Sequence[MeasuredRow],
    images: Tensor,
    product: MatrixProduct,
    rounds: int,
    seed: int,
    progress: Progress,
) -> list[float]:
    """Time all rows and the matrix product, each once per round, in a new random order every round.

    Args:
        rows: rows after warm-up; they store their times.
        images: (B, 3, H, W).
        product: matrix product that defines the peak.
        rounds: number of rounds.
        seed: seed of the order.
        progress: called after every pass and product: once before and `len(rows) + 1` times per round.

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


def largest_that_fits(subject: TimedSubject, size: Size, mode: Mode) -> Size | None:
    """Try smaller sizes, the smallest first, until memory runs out or a pass takes too long.

    Args:
        subject: subject that ran out of memory.
        size: size at which it ran out; the sizes to try are successive halves.
        mode: mode of the pass; trials are not compiled.

    Returns:
        The last size that fits, or None if none does.
    """
    fitted = None
    for smaller in smaller_sizes(size):
        try:
            seconds = _seconds_of_trial(subject, smaller, replace(mode, compiled=False))
        except OutOfMemoryError:
            break
        except UserError:  # A peer may not take every size.
            continue
        fitted = smaller
        if seconds > PATIENCE_SECONDS:
            break
    return fitted


def _seconds_of_trial(subject: TimedSubject, size: Size, mode: Mode) -> float:
    with out_of_memory_raised(mode.device):
        return time_pass(build(subject, size, mode), random_images(size, mode.device, seed=0), mode)


@dataclass(frozen=True)
class BenchmarkPlan:
    """Subjects, sizes and settings of a benchmark.

    Attributes:
        subjects: subjects of the rows; all are compared with the first.
        sizes: sizes, smallest first. If there is only one, every subject must fit into memory.
        mode: settings of a pass.
        rounds: number of times that each row is timed.
        matrix_side: side of the matrices whose product defines the peak; None for the default.
        seed: random seed of the images and the order.
    """

    subjects: Sequence[TimedSubject]
    sizes: Sequence[Size]
    mode: Mode
    rounds: int
    matrix_side: int | None
    seed: int

    @property
    def must_fit(self) -> bool:
        """Whether running out of memory is an error, not just a row without figures."""
        return len(self.sizes) == 1

    @property
    def steps(self) -> int:
        """Number of passes and products at one size."""
        return UNTIMED_PASSES * len(self.subjects) + 1 + self.rounds * (len(self.subjects) + 1)


def run(plan: BenchmarkPlan) -> list[Measurements]:
    """Measure at one size after another; show progress on stderr.

    Raises:
        UserError: a subject does not accept a size or cannot run in this mode, or memory ran out: for
            one subject at the only size, or for all subjects at all sizes.
    """
    compiling = compiled_throughout() if plan.mode.compiled else nullcontext()
    with refused_beyond_free_memory(plan.mode.device), current(plan.mode.device), compiling:
        check_sizes(plan)
        product = MatrixProduct(plan.matrix_side, plan.mode)
        found = [_measure_with_progress(plan, size, product) for size in plan.sizes]
        check_memory(plan, found)
    return found


def check_sizes(plan: BenchmarkPlan) -> None:
    """Count the cost of every subject at every size, before any timing.

    Raises:
        UserError: a subject does not accept a size.
    """
    for subject in plan.subjects:
        for size in plan.sizes:
            subject.cost(size)


def check_memory(plan: BenchmarkPlan, found: Sequence[Measurements]) -> None:
    """Check for figures that are missing because memory ran out.

    Raises:
        UserError: a figure is missing at the only size, or all are; the message says what fits.
    """
    if plan.must_fit:
        for subject, row in zip(plan.subjects, found[0].rows, strict=False):
            if row.ran_out_of_memory:
                raise UserError(_what_fits(subject, plan.sizes[0], plan.mode))
    if all(row.ran_out_of_memory for each in found for row in each.rows):
        raise UserError(
            f'memory runs out for every row at every size, even the smallest ({plan.sizes[0]}); '
            'give smaller sizes'
        )


def measure(plan: BenchmarkPlan, size: Size, product: MatrixProduct, progress: Progress) -> Measurements:
    """Measure all subjects at one size; if all must fit, stop at the first that does not fit."""
    images = images_or_none(size, plan)
    found = Measurements(size, [], product.side)
    rows = []
    for subject in plan.subjects:
        row = MeasuredRow(subject, size, plan.mode)
        row.warm_up(images, progress)
        rows.append(row)
        if row.figures.ran_out_of_memory and plan.must_fit:
            break
    fitting = [row for row in rows if not row.figures.ran_out_of_memory]
    if fitting and (len(fitting) == len(plan.subjects) or not plan.must_fit):
        found.matrix_seconds = timed_rounds(fitting, images, product, plan.rounds, plan.seed, progress)
    found.rows = [row.figures for row in rows]
    return found


def images_or_none(size: Size, plan: BenchmarkPlan) -> Tensor | None:
    """Return the batch for all subjects, or None if it does not fit into memory."""
    try:
        with out_of_memory_raised(plan.mode.device):
            return random_images(size, plan.mode.device, plan.seed)
    except OutOfMemoryError:
        return None


def _measure_with_progress(plan: BenchmarkPlan, size: Size, product: MatrixProduct) -> Measurements:
    with tqdm(total=plan.steps, desc=str(size), unit='pass', leave=False, file=sys.stderr) as bar:

        def advance(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        return measure(plan, size, product, advance)


def _what_fits(subject: TimedSubject, size: Size, mode: Mode) -> str:
    smaller = largest_that_fits(subject, size, mode)
    advice = f'{smaller} fits' if smaller else 'nothing smaller was found to fit'
    return f'{subject.name} runs out of memory on {size} on {mode.device}; {advice}'
