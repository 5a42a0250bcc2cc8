"""A whole benchmark: all subjects at all sizes."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor
from tqdm import tqdm

from evaluation.benchmark.compilation import compiled_throughout
from evaluation.benchmark.fitting import largest_that_fits
from evaluation.benchmark.passes import Mode, random_images
from evaluation.benchmark.peak import MatrixProduct
from evaluation.benchmark.rounds import UNTIMED_PASSES, Measurements, Progress, Row, timed_rounds
from evaluation.benchmark.sizes import Size
from evaluation.benchmark.subjects import Subject
from evaluation.utils.devices import current
from evaluation.utils.errors import UserError
from evaluation.utils.memory import OutOfMemoryError, out_of_memory_raised, refused_beyond_free_memory


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        subjects: the rows, the first of which is what the others are compared with.
        sizes: the smallest first. At a single one every subject must fit into memory.
        mode: how to run.
        rounds: how often each row is timed.
        matrix_side: of the matrices whose product is the peak; None for the usual one.
        seed: of the images and of the order.
    """

    subjects: Sequence[Subject]
    sizes: Sequence[Size]
    mode: Mode
    rounds: int
    matrix_side: int | None
    seed: int

    @property
    def must_fit(self) -> bool:
        """Whether a subject for which memory runs out is an error, and not a row without figures."""
        return len(self.sizes) == 1

    @property
    def steps(self) -> int:
        """Passes and products at one size."""
        return UNTIMED_PASSES * len(self.subjects) + 1 + self.rounds * (len(self.subjects) + 1)


def run(plan: Plan) -> list[Measurements]:
    """Measure at one size after another; progress is shown on stderr.

    Raises:
        UserError: a subject does not take a size or cannot run in this mode, or memory ran out: at the
            only size for one subject, else for all subjects at all sizes.
    """
    compiling = compiled_throughout() if plan.mode.compiled else nullcontext()
    with refused_beyond_free_memory(plan.mode.device), current(plan.mode.device), compiling:
        check_sizes(plan)
        product = MatrixProduct(plan.matrix_side, plan.mode)
        found = [_measure_with_progress(plan, size, product) for size in plan.sizes]
        check_memory(plan, found)
    return found


def check_sizes(plan: Plan) -> None:
    """Count the cost of every subject at every size, before time is spent on any.

    Raises:
        UserError: a subject does not take a size.
    """
    for subject in plan.subjects:
        for size in plan.sizes:
            subject.cost(size)


def check_memory(plan: Plan, found: Sequence[Measurements]) -> None:
    """Look for figures that are missing because memory ran out.

    Raises:
        UserError: there is one at the only size, or there are no others; the message says what fits.
    """
    if plan.must_fit:
        for subject, row in zip(plan.subjects, found[0].rows, strict=False):
            if row.ran_out_of_memory:
                raise UserError(_what_fits(subject, plan.sizes[0], plan.mode))
    if all(row.ran_out_of_memory for each in found for row in each.rows):
        raise UserError(
            f'memory runs out for every row at every size, the smallest of which is {plan.sizes[0]}; '
            'give smaller ones'
        )


def measure(plan: Plan, size: Size, product: MatrixProduct, progress: Progress) -> Measurements:
    """Measure all subjects at one size; where all must fit, stop at the first that does not."""
    images = images_or_none(size, plan)
    found = Measurements(size, [], product.side)
    rows = []
    for subject in plan.subjects:
        row = Row(subject, size, plan.mode)
        row.warm_up(images, progress)
        rows.append(row)
        if row.figures.ran_out_of_memory and plan.must_fit:
            break
    fitting = [row for row in rows if not row.figures.ran_out_of_memory]
    if fitting and (len(fitting) == len(plan.subjects) or not plan.must_fit):
        found.matrix_seconds = timed_rounds(fitting, images, product, plan.rounds, plan.seed, progress)
    found.rows = [row.figures for row in rows]
    return found


def images_or_none(size: Size, plan: Plan) -> Tensor | None:
    """The batch that all subjects get; None where memory has no room for it."""
    try:
        with out_of_memory_raised(plan.mode.device):
            return random_images(size, plan.mode.device, plan.seed)
    except OutOfMemoryError:
        return None


def _measure_with_progress(plan: Plan, size: Size, product: MatrixProduct) -> Measurements:
    with tqdm(total=plan.steps, desc=str(size), unit='pass', leave=False, file=sys.stderr) as bar:

        def advance(name: str) -> None:
            bar.set_postfix_str(name, refresh=False)
            bar.update()

        return measure(plan, size, product, advance)


def _what_fits(subject: Subject, size: Size, mode: Mode) -> str:
    smaller = largest_that_fits(subject, size, mode)
    advice = f'{smaller} fits' if smaller else 'nothing smaller was found to fit'
    return f'{subject.name} runs out of memory on {size} on {mode.device}; {advice}'
