"""Checks of a stage: run them one after another, and record each outcome at once."""

import json
import math
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from evaluation.utils.devices import has_bfloat16_products
from evaluation.utils.random_state import seeded

PASSED, FAILED, SKIPPED = 'passed', 'FAILED', 'skipped'
# Longest reason in the table, in characters; the file has the whole traceback.
LONGEST_REASON = 300


class FailedCheckError(Exception):
    """The suite does not do what it should: what was found, and what was expected.

    Attributes:
        figures: figures by name that were found nevertheless.
    """

    def __init__(self, message: str, figures: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.figures = figures or {}


class SkippedCheckError(Exception):
    """A check cannot run on the device or machine; the message says why."""


@dataclass(frozen=True)
class Settings:
    """Settings of all stages.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N`.
        quick: whether to use small sizes and few repeats.
        folder: folder for data and outputs of trainings.
    """

    device: str
    quick: bool
    folder: Path

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type == 'cuda'


@dataclass(frozen=True)
class Check:
    """A check of a stage.

    Attributes:
        name: name in tables.
        run: returns figures by name. Raises `FailedCheckError` or `SkippedCheckError`; any other
            exception fails the check too.
    """

    name: str
    run: Callable[[], Mapping[str, object]]


@dataclass(frozen=True)
class Outcome:
    """Result of a check.

    Attributes:
        check: name of the check.
        status: `passed`, `FAILED` or `skipped`.
        seconds: duration.
        figures: figures by name.
        reason: what is wrong, or why the check was skipped; '' if it passed.
        traceback: of an unexpected exception, or ''.
    """

    check: str
    status: str
    seconds: float
    figures: Mapping[str, object] = field(default_factory=dict)
    reason: str = ''
    traceback: str = ''


def run_checks(checks: Iterable[Check], record: Callable[[Outcome], None]) -> None:
    """Run all checks in order, each with the same random seed, and record each outcome at once."""
    for check in checks:
        start = time.perf_counter()
        with seeded(0):
            status, figures, reason, trace = _tried(check)
        record(Outcome(check.name, status, time.perf_counter() - start, figures, reason, trace))


def _tried(check: Check) -> tuple[str, Mapping[str, object], str, str]:
    """Return status, figures, reason and traceback of a check."""
    try:
        return PASSED, check.run(), '', ''
    except SkippedCheckError as error:
        return SKIPPED, {}, str(error), ''
    except FailedCheckError as error:
        return FAILED, error.figures, str(error), ''
    except Exception as error:
        first = (str(error).strip() or 'no message').splitlines()[0]
        reason = f'{type(error).__name__}: {first}'[:LONGEST_REASON]
        return FAILED, {}, reason, traceback.format_exc()


def append_outcome(file: Path, outcome: Outcome) -> None:
    """Append an outcome to a file, as one line of JSON."""
    with file.open('a') as stream:
        stream.write(json.dumps(asdict(outcome)) + '\n')


def read_outcomes(file: Path) -> list[Outcome]:
    """Read the outcomes of a file; a last line that was cut off is ignored."""
    if not file.is_file():
        return []
    lines = file.read_text().split('\n')[:-1]
    return [Outcome(**json.loads(line)) for line in lines]


def check_instructions(device: torch.device, dtype: str) -> None:
    """Check that a device has instructions for `fp32`, `fp16` or `bf16`.

    Raises:
        SkippedCheckError: it is a CPU without.
    """
    has_none = dtype == 'fp16' or (dtype == 'bf16' and not has_bfloat16_products())
    if device.type == 'cpu' and has_none:
        raise SkippedCheckError(f'this CPU has no instructions for {dtype}')


def largest_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the largest absolute difference, relative to the largest absolute value of the truth.

    Raises:
        FailedCheckError: the shapes differ, or a value is not finite.
    """
    if found.shape != truth.shape:
        raise FailedCheckError(f'shape {tuple(found.shape)}, expected {tuple(truth.shape)}')
    if not truth.numel():
        return 0.0
    found, truth = found.detach().double().cpu(), truth.detach().double().cpu()
    if not found.isfinite().all():
        raise FailedCheckError('non-finite values')
    scale = truth.abs().max().item()
    difference = (found - truth).abs().max().item()
    return difference / scale if scale else difference


def check_errors(errors: Mapping[str, float], bound: float) -> dict[str, float]:
    """Return the errors and their bound as figures.

    Raises:
        FailedCheckError: an error is above the bound.
    """
    worst = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    if not errors[worst] <= bound:
        raise FailedCheckError(f'error of {worst} {errors[worst]:.2g}, bound {bound:.2g}')
    return {'worst': worst, 'error': errors[worst], 'bound': bound}


def named(names: Sequence[str], values: Iterable[torch.Tensor], truths: Iterable[torch.Tensor]) -> dict:
    """Return the largest error of each named tensor."""
    return {
        name: largest_error(value, truth)
        for name, value, truth in zip(names, values, truths, strict=True)
    }
