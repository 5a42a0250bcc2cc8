"""Which smaller size fits where one has run out of memory."""

from dataclasses import replace

from evaluation.benchmark.passes import Mode, random_images, time_pass
from evaluation.benchmark.rounds import build
from evaluation.benchmark.sizes import Size, smaller_sizes
from evaluation.benchmark.subjects import Subject
from evaluation.utils.errors import UserError
from evaluation.utils.memory import OutOfMemoryError, out_of_memory_raised

# A pass over twice the side takes four times as long or more: no reason to wait for that.
PATIENCE_SECONDS = 5.0


def largest_that_fits(subject: Subject, size: Size, mode: Mode) -> Size | None:
    """Try smaller sizes, the smallest first, until memory runs out or a pass takes long.

    Args:
        subject: what has run out of memory.
        size: where it did; the sizes to try are halves of it.
        mode: how it ran; nothing is compiled for a trial.

    Returns:
        The last size that fitted, or None if none did.
    """
    fitted = None
    for smaller in smaller_sizes(size):
        try:
            seconds = _seconds_of_trial(subject, smaller, replace(mode, compiled=False))
        except OutOfMemoryError:
            break
        except UserError:  # Of a peer that does not take every size.
            continue
        fitted = smaller
        if seconds > PATIENCE_SECONDS:
            break
    return fitted


def _seconds_of_trial(subject: Subject, size: Size, mode: Mode) -> float:
    with out_of_memory_raised(mode.device):
        return time_pass(build(subject, size, mode), random_images(size, mode.device, seed=0), mode)
