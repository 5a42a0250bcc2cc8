"""Where the time of a training or a test run goes: one phase at a time, none counted twice."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from time import perf_counter

import torch
from torch import nn

from evaluation.utils.text_tables import Cell, Column, Table, to_markdown

# What a loop does when it does nothing else: it waits for the next batch.
DATA = 'data'
# In the order of a step. What a step does beside its named parts is `losses` in training (targets, loss
# values), and `post-processing` in evaluations (proposals, suppression, masks and maps in full size).
PHASES = (
    DATA,
    'preprocessing',
    'backbone',
    'neck',
    'heads',
    'losses',
    'post-processing',
    'backward',
    'optimizer',
    'metric',
    'evaluation',
    'hooks',
)


class Stopwatch:
    """Books all time that passes within a loop to the innermost phase that is under way.

    Args:
        synchronize: waits for what was started; called wherever a phase begins or ends.

    Attributes:
        seconds: by loop and phase.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.seconds: dict[str, Counter[str]] = {}
        self._synchronize = synchronize
        self._under_way: list[tuple[str, str]] = []
        self._booked_until = 0.0

    @contextlib.contextmanager
    def loop(self, name: str) -> Iterator[None]:
        """Start a loop anew, maybe within another; its time is `data` but for the phases in it."""
        self.seconds[name] = Counter()
        with self._within(name, DATA):
            yield

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book to a phase of the loop that is under way; outside of loops nothing is booked."""
        if not self._under_way:
            yield
            return
        loop, _ = self._under_way[-1]
        with self._within(loop, name):
            yield

    @contextlib.contextmanager
    def _within(self, loop: str, phase: str) -> Iterator[None]:
        self.book()
        self._under_way.append((loop, phase))
        try:
            yield
        finally:
            self.book()
            self._under_way.pop()

    def book(self) -> None:
        """Book the time up to now."""
        self._synchronize()
        now = perf_counter()
        if self._under_way:
            loop, phase = self._under_way[-1]
            self.seconds[loop][phase] += now - self._booked_until
        self._booked_until = now


class Watched:
    """Objects whose methods are timed until `restore`.

    Args:
        stopwatch: what books.
    """

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        self._restorers: list[Callable[[], None]] = []

    def watch(self, owner: object, method: str, phase: str) -> None:
        """Book every call of a method of this one object to a phase."""
        self._surround(owner, method, functools.partial(self._stopwatch.phase, phase))

    def watch_loop(self, owner: object, method: str, loop: str) -> None:
        """Take every call of a method for a loop."""
        self._surround(owner, method, functools.partial(self._stopwatch.loop, loop))

    def watch_module(self, module: nn.Module, phase: str) -> None:
        """Book every forward pass of a module to a phase.

        Where it is compiled the compiled call is timed, not what is within it: the compiler would take
        the stopwatch for a part of the model.
        """
        compiled = getattr(module, '_compiled_call_impl', None) is not None
        self.watch(module, '_compiled_call_impl' if compiled else 'forward', phase)

    def restore(self) -> None:
        """Leave everything as it was."""
        while self._restorers:
            self._restorers.pop()()

    def _surround(
        self, owner: object, method: str, context: Callable[[], contextlib.AbstractContextManager]
    ) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def timed(*arguments: object, **keywords: object) -> object:
            with context():
                return original(*arguments, **keywords)

        if method in vars(owner):
            self._restorers.append(lambda: setattr(owner, method, original))
        else:
            self._restorers.append(lambda: delattr(owner, method))
        setattr(owner, method, timed)


def watch_parts(watched: Watched, model: nn.Module) -> None:
    """Time the parts of a detector or segmentor."""
    for name, child in model.named_children():
        phase = {'data_preprocessor': 'preprocessing'}.get(name, name)
        if phase in PHASES:
            watched.watch_module(child, phase)
        elif is_head(name):
            for head in innermost_heads(child):
                watched.watch_module(head, 'heads')


def is_head(name: str) -> bool:
    """Whether a part is called a head, or what cuts its regions out."""
    return name.endswith(('_head', '_extractor'))


def innermost_heads(module: nn.Module) -> list[nn.Module]:
    """The heads inside of one that only holds them together, or itself."""
    inner = [child for name, child in module.named_children() if is_head(name)]
    return [head for child in inner for head in innermost_heads(child)] or [module]


def synchronize_with(device: torch.device) -> Callable[[], None]:
    """What waits for the work on a device."""
    if device.type != 'cuda':
        return lambda: None
    return functools.partial(torch.cuda.synchronize, device)


def describe_shares(seconds: Counter[str], iterations: int) -> dict:
    """Time of a loop for `result.json`: iterations, seconds and shares by phase."""
    total = sum(seconds.values())
    known = [phase for phase in PHASES if phase in seconds]
    return {
        'iterations': iterations,
        'seconds': {phase: seconds[phase] for phase in known},
        'shares': {phase: seconds[phase] / total if total else 0.0 for phase in known},
    }


def render_shares(loop: str, described: dict) -> str:
    """The same as a Markdown table."""
    columns = (Column('Phase', 'Phase', numeric=False), Column('ms a step', ''), Column('share (%)', ''))
    steps = max(described['iterations'], 1)
    rows = [
        (Cell(phase), Cell(f'{1000 * taken / steps:.1f}'), Cell(f'{100 * share:.1f}'))
        for (phase, taken), share in zip(
            described['seconds'].items(), described['shares'].values(), strict=True
        )
    ]
    total = sum(described['seconds'].values())
    rows.append((Cell('all'), Cell(f'{1000 * total / steps:.1f}'), Cell('100.0')))
    title = f'Time of {described["iterations"]} steps ({loop})'
    return to_markdown(Table(title, columns, (tuple(rows),), notes=()))
