"""What a sweep shows while it works: a live table on a terminal, else a line now and then."""

import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from evaluation.sweep.items import ACTIVE, DONE, FAILED, INTERRUPTED, REFUSED, WAITING, Item
from evaluation.sweep.progress import Progress, progress_of
from evaluation.sweep.work import LOG
from evaluation.utils.times import clock

SECONDS_BETWEEN_LINES = 60.0
STYLES = {DONE: 'green', FAILED: 'red', REFUSED: 'red', INTERRUPTED: 'yellow', ACTIVE: 'cyan'}


class LiveTable:
    """A table on a terminal, drawn anew at every change; a context manager."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)

    def __enter__(self) -> 'LiveTable':
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(*error)

    def show(self, items: Sequence[Item]) -> None:
        """Draw where all runs are."""
        table = Table(caption=summary(items), caption_justify='left')
        for name, justify in (('run', 'left'), ('state', 'left'), ('step', 'right'), ('left', 'right')):
            table.add_column(name, justify=justify, no_wrap=name != 'run')
        table.add_column('metric', no_wrap=True)
        table.add_column('time', justify='right', no_wrap=True)
        table.add_column('')
        # Where not all fit, what happens is of more interest than what waits or is done.
        for item in shown(items, self._live.console.height - 6):
            table.add_row(*map(escape, cells(item)), style=STYLES.get(item.state))
        self._live.update(table, refresh=True)


class Lines:
    """A line for every change of a run's state, and one for all of them now and then."""

    def __init__(self) -> None:
        self._said: dict[str, tuple] = {}
        self._summed_up = time.monotonic()

    def __enter__(self) -> 'Lines':
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

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
    """The items that a table of so many rows shows, in their order."""
    if len(items) <= rows:
        return list(items)
    weight = {ACTIVE: 0, FAILED: 1, REFUSED: 1, INTERRUPTED: 1, WAITING: 2, DONE: 3}
    first = sorted(items, key=lambda item: weight[item.state])[: max(1, rows)]
    return [item for item in items if item in first]


def cells(item: Item) -> tuple[str, str, str, str, str, str, str]:
    """A run's name, state, step, time left, metric, time taken, and what there is to say."""
    progress = Progress()
    if item.run and item.state in (ACTIVE, DONE):
        progress = progress_of(item.run, item.started() if item.state == ACTIVE else 0.0)
    step = f'{progress.done}/{progress.total or "?"}' if progress.done else ''
    left = clock(progress.seconds_left) if item.state == ACTIVE and progress.seconds_left else ''
    seconds = item.seconds()
    taken = '' if seconds is None else clock(seconds)
    return (item.name, item.phase, step, left, progress.metric or '', taken, item.note or '')


def line(item: Item) -> str:
    """A run in one line."""
    name, phase, step, left, metric, taken, note = cells(item)
    parts = [f'step {step}' if step else '', f'about {left} left' if left else '', metric]
    parts += [f'{taken} since the start' if taken and item.state == ACTIVE else taken, note]
    return f'{name}: {phase}' + ''.join(f', {part}' for part in parts if part)


def summary(items: Sequence[Item]) -> str:
    """How many runs are in which state."""
    count = Counter(item.state for item in items)
    words = {WAITING: 'waiting', ACTIVE: 'in work', DONE: 'done', INTERRUPTED: 'interrupted'}
    words |= {FAILED: 'failed', REFUSED: 'refused'}
    parts = [f'{count[state]} {word}' for state, word in words.items() if count[state]]
    runs = '1 run' if len(items) == 1 else f'{len(items)} runs'
    return f'{runs}: {", ".join(parts)}'


def report(items: Sequence[Item]) -> list[str]:
    """What there is to say at the end, a line for each run that is not done."""
    lines = [summary(items)]
    for item in items:
        if item.state in (FAILED, INTERRUPTED, REFUSED):
            where = f' (output: {item.run.task.folder / LOG})' if item.run and item.attempt else ''
            lines.append(f'{item.state}: {item.name}: {item.note}{where}')
    return lines
