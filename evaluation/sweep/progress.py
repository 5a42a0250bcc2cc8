"""How far a run is: steps and time left from its scalars, the latest metric from its results."""

from dataclasses import dataclass
from pathlib import Path

from evaluation.sweep.findings import is_result_of, results
from evaluation.sweep.log import epoch_length, tail
from evaluation.sweep.runs import Run
from evaluation.sweep.work import LOG
from evaluation.tasks import TASKS
from evaluation.utils.rounding import fixed
from evaluation.utils.scalars import latest_step


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: iterations so far.
        total: of the whole training; None where it is not known yet.
        seconds_left: of training; None where it is not known yet.
        metric: the latest, as tables call it; None before the first evaluation.
    """

    done: int = 0
    total: int | None = None
    seconds_left: float | None = None
    metric: str | None = None


def progress_of(run: Run, since: float = 0.0) -> Progress:
    """Read how far a run is.

    Args:
        run: which.
        since: when its job started, in seconds since 1970.
    """
    folder = run.task.folder
    if run.task.train is None:
        return Progress(metric=latest_metric(run))
    step = latest_step(folder, since)
    total = run.iterations or _iterations(folder, run.epochs)
    left = None
    if total is not None and step.seconds is not None:
        left = max(0, total - step.done) * step.seconds
    return Progress(step.done, total, left, latest_metric(run))


def latest_metric(run: Run) -> str | None:
    """The first of the task's metrics in the newest result of a run, such as `mIoU 41.2`."""
    newest = None
    for _, result in results(run.task.folder):
        if is_result_of(result, run.task.identity):
            newest = result
    if newest is None or newest.get('task') not in TASKS:
        return None
    name = TASKS[newest['task']].headlines[0]
    value = newest.get('metrics', {}).get(name)
    return None if value is None else f'{name.replace("_", " ")} {fixed(value, 1)}'


def _iterations(folder: Path, epochs: int | None) -> int | None:
    length = epoch_length(tail(folder / LOG))
    return None if length is None or epochs is None else epochs * length
