"""Progress of a sweep: a live table on a terminal, otherwise an occasional line."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from evaluation.sweep.decisions import REFUSED, is_result_of, results
from evaluation.sweep.items import ACTIVE, WAITING, Item
from evaluation.sweep.record import DONE, FAILED, INTERRUPTED
from evaluation.sweep.runs import Run
from evaluation.sweep.work import LOG
from evaluation.tasks import find_task
from evaluation.utils.formats import clock, fixed
from evaluation.utils.scalars import latest_step

SECONDS_BETWEEN_LINES = 60.0
STYLES = {DONE: 'green', FAILED: 'red', REFUSED: 'red', INTERRUPTED: 'yellow', ACTIVE: 'cyan'}


@dataclass(frozen=True)
class RunProgress:
    """Progress of a run.

    Attributes:
        done: finished iterations.
        total: iterations of the whole training; None if not known yet.
        seconds_left: remaining training time; None if not known yet.
        metric: latest metric, such as `mIoU 41.2`; None before the first evaluation.
    """

    done: int = 0
    total: int | None = None
    seconds_left: float | None = None
    metric: str | None = None


def progress_of(run: Run, since: float = 0.0) -> RunProgress:
    """Read the progress of a run.

    Args:
        run: run to inspect.
        since: start time of its job, in seconds since 1970.
    """
    folder = run.task.folder
    if run.task.train is None:
        return RunProgress(metric=latest_metric(run))
    step = latest_step(folder, since)
    left = None
    if step.total is not None and step.seconds is not None:
        left = max(0, step.total - step.done) * step.seconds
    return RunProgress(step.done, step.total, left, latest_metric(run))


def latest_metric(run: Run) -> str | None:
    """Return the first of the task's metrics in the newest result of a run, such as `mIoU 41.2`."""
    newest = None
    for _, result in results(run.task.folder):
        if is_result_of(result, run.task.identity):
            newest = result
    task = newest and find_task(newest.get('task'))
    if task is None:
        return None
    name = task.headlines[0]
    value = newest.get('metrics', {}).get(name)
    return None if value is None else f'{name.replace("_", " ")} {fixed(value, 1)}'


class LiveTable:
    """Table on a terminal, redrawn at every change; a context manager."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> 'LiveTable':
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)

    def show(self, items: Sequence[Item]) -> None:
        """Draw the state of all runs."""
        table = Table(caption=summary(items), caption_justify='left')
        for name, justify in (('run', 'left'), ('state', 'left'), ('step', 'right'), ('left', 'right')):
            table.add_column(name, justify=justify, no_wrap=name != 'run')
        table.add_column('metric', no_wrap=True)
        table.add_column('time', justify='right', no_wrap=True)
        table.add_column('')
        # If not all rows fit, active and failed runs come before waiting and finished ones.
        for item in shown(items, self._live.console.height - 6):
            table.add_row(*map(escape, cells(item)), style=STYLES.get(item.state))
        self._live.update(table, refresh=True)


class Lines:
    """Print a line for every change of state, and a summary from time to time."""

    def __init__(self) -> None:
        self._said: dict[str, tuple] = {}
        self._summed_up = time.monotonic()

    def __enter__(self) -> 'Lines':
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def show(self, items: Sequence[Item]) -> None:
        """Print what has changed since the last time."""
        for item in items:
            key = (item.state, item.phase, item.attempt)
            if item.state != WAITING and self._said.get(item.name) != key:
                self._said[item.name] = key
                print(line(item), flush=True)
        if time.monotonic() - self._summed_up > SECONDS_BETWEEN_LINES:
            self._summed_up = time.monotonic()
            running = [line(item) for item in items if item.state == ACTIVE]
            print('\n'.join([summary(items), *(f'  {each}' for each in running)]), flush=True)


def shown(items: Sequence[Item], rows: int) -> list[Item]:
    """Return the items that fit into a table of `rows` rows, in their order."""
    if len(items) <= rows:
        return list(items)
    weight = {ACTIVE: 0, FAILED: 1, REFUSED: 1, INTERRUPTED: 1, WAITING: 2, DONE: 3}
    first = sorted(items, key=lambda item: weight[item.state])[: max(1, rows)]
    return [item for item in items if item in first]


def cells(item: Item) -> tuple[str, str, str, str, str, str, str]:
    """Return the name, state, step, time left, metric, elapsed time and note of a run."""
    progress = RunProgress()
    if item.run and item.state in (ACTIVE, DONE):
        progress = progress_of(item.run, item.started() if item.state == ACTIVE else 0.0)
    step = f'{progress.done}/{progress.total or "?"}' if progress.done else ''
    left = clock(progress.seconds_left) if item.state == ACTIVE and progress.seconds_left else ''
    seconds = item.seconds()
    taken = '' if seconds is None else clock(seconds)
    return (item.name, item.phase, step, left, progress.metric or '', taken, item.note or '')


def line(item: Item) -> str:
    """Describe a run in one line."""
    name, phase, step, left, metric, taken, note = cells(item)
    parts = [f'step {step}' if step else '', f'about {left} left' if left else '', metric]
    parts += [f'{taken} since the start' if taken and item.state == ACTIVE else taken, note]
    return f'{name}: {phase}' + ''.join(f', {part}' for part in parts if part)


def summary(items: Sequence[Item]) -> str:
    """Return the number of runs in each state, in words."""
    count = Counter(item.state for item in items)
    words = {WAITING: 'waiting', ACTIVE: 'active', DONE: 'done', INTERRUPTED: 'interrupted'}
    words |= {FAILED: 'failed', REFUSED: 'refused'}
    parts = [f'{count[state]} {word}' for state, word in words.items() if count[state]]
    runs = '1 run' if len(items) == 1 else f'{len(items)} runs'
    return f'{runs}: {", ".join(parts)}'


def report(items: Sequence[Item]) -> list[str]:
    """Return the final summary, with a line for each run that is not done."""
    lines = [summary(items)]
    for item in items:
        if item.state in (FAILED, INTERRUPTED, REFUSED):
            where = f' (output: {item.run.task.folder / LOG})' if item.run and item.attempt else ''
            lines.append(f'{item.state}: {item.name}: {item.note}{where}')
    return lines
