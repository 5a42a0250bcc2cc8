"""Measure the share of a run's time that each phase takes: data, parts of the model, metric."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from evaluation.models.model_weights import unwrapped
from evaluation.utils.text_tables import Cell, Column, Table, to_markdown

STEPS = {'train_step': 'losses', 'val_step': 'post-processing', 'test_step': 'post-processing'}
OPTIMIZATION = {'backward': 'backward', 'step': 'optimizer', 'zero_grad': 'optimizer'}
METRICS = {'process': 'metric', 'evaluate': 'evaluation'}
# The time of a loop outside of all other phases, in which it waits for the next batch.
DATA = 'data'
# In the order of a step. The time of a step outside of its named parts is `losses` in training (targets,
# loss values), and `post-processing` in evaluations (proposals, NMS, masks and maps at full size).
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


@HOOKS.register_module()
class TimeSharesHook(Hook):
    """Times the phases of every loop of a run, for a table in the log and for `result.json`.

    On a GPU it synchronizes at every phase boundary, which makes a run somewhat slower.
    """

    def __init__(self) -> None:
        self._stopwatch: Stopwatch | None = None
        self._watched: Watched | None = None
        self._iterations: Counter[str] = Counter()
        self._model_is_watched = False

    def before_run(self, runner: Runner) -> None:
        """Watch the loops, what they call, and the hooks."""
        self._stopwatch = Stopwatch(synchronize_with(next(runner.model.parameters()).device))
        self._watched = Watched(self._stopwatch)
        # Loops that this run does not use are not built; the runner only has their settings.
        loops = {'train': runner._train_loop, 'val': runner._val_loop, 'test': runner._test_loop}
        for name, loop in loops.items():
            if isinstance(loop, BaseLoop):
                self._watched.watch_loop(loop, 'run', name)
            if hasattr(loop, 'evaluator'):
                for method, phase in METRICS.items():
                    self._watched.watch(loop.evaluator, method, phase)
        self._watched.watch(runner, 'call_hook', 'hooks')

    def before_train(self, runner: Runner) -> None:
        """Watch the optimizer and the model, which is compiled by now if `--compile` is given."""
        for method, phase in OPTIMIZATION.items():
            self._watched.watch(runner.optim_wrapper, method, phase)
        self._watch_model(runner)

    def before_val(self, runner: Runner) -> None:
        """Reset the count, and watch the model unless a training did so before."""
        self._iterations['val'] = 0
        self._watch_model(runner)

    def before_test(self, runner: Runner) -> None:
        """Watch the model."""
        self._watch_model(runner)

    def _watch_model(self, runner: Runner) -> None:
        if self._model_is_watched:
            return
        self._model_is_watched = True
        for step, phase in STEPS.items():
            if hasattr(runner.model, step):
                self._watched.watch(runner.model, step, phase)
        watch_parts(self._watched, unwrapped(runner.model))

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: object = None,
        outputs: dict | Sequence | None = None,
        mode: str = 'train',
    ) -> None:
        """Count the steps of each loop."""
        self._iterations[mode] += 1

    def after_run(self, runner: Runner) -> None:
        """Log a table for each loop, and remove the stopwatch."""
        for loop, described in self.shares().items():
            print_log(f'\n{render_shares(loop, described)}', logger='current')
        self._watched.restore()

    def shares(self) -> dict[str, dict]:
        """Return the time of every loop so far, for `result.json`; for evaluations, of the last one."""
        self._stopwatch.book()
        return {
            loop: describe_shares(seconds, self._iterations[loop])
            for loop, seconds in self._stopwatch.seconds.items()
        }


def time_shares(runner: Runner) -> dict[str, dict] | None:
    """Return the figures of a run's `TimeSharesHook`; None without such a hook."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, TimeSharesHook)]
    return hooks[0].shares() if hooks else None


def use_time_shares(cfg: Config) -> None:
    """Add a `TimeSharesHook` to a config."""
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type=TimeSharesHook.__name__)]


class Stopwatch:
    """Assigns all time within a loop to the innermost active phase.

    Args:
        synchronize: function that waits for pending device work; called when a phase begins or ends.

    Attributes:
        seconds: time by loop and phase.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.seconds: dict[str, Counter[str]] = {}
        self._synchronize = synchronize
        self._under_way: list[tuple[str, str]] = []
        self._booked_until = 0.0

    @contextlib.contextmanager
    def loop(self, name: str) -> Iterator[None]:
        """Start a loop at zero, possibly within another; time outside of its phases is `data`."""
        self.seconds[name] = Counter()
        with self._within(name, DATA):
            yield

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase of the active loop; outside of loops nothing is timed."""
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
        """Assign the time since the last call to the active phase."""
        self._synchronize()
        now = perf_counter()
        if self._under_way:
            loop, phase = self._under_way[-1]
            self.seconds[loop][phase] += now - self._booked_until
        self._booked_until = now


class Watched:
    """Objects whose methods are timed until `restore`.

    Args:
        stopwatch: stopwatch that collects the times.
    """

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch
        self._restorers: list[Callable[[], None]] = []

    def watch(self, owner: object, method: str, phase: str) -> None:
        """Assign the calls of a method of this one object to a phase."""
        self._surround(owner, method, functools.partial(self._stopwatch.phase, phase))

    def watch_loop(self, owner: object, method: str, loop: str) -> None:
        """Treat every call of a method as a loop."""
        self._surround(owner, method, functools.partial(self._stopwatch.loop, loop))

    def watch_module(self, module: nn.Module, phase: str) -> None:
        """Assign the forward passes of a module to a phase.

        For a compiled module the compiled call is timed from outside; otherwise the compiler would
        trace the stopwatch as part of the model.
        """
        compiled = getattr(module, '_compiled_call_impl', None) is not None
        self.watch(module, '_compiled_call_impl' if compiled else 'forward', phase)

    def restore(self) -> None:
        """Restore all methods."""
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
    """Return whether a part is named as a head or as an extractor of regions for one."""
    return name.endswith(('_head', '_extractor'))


def innermost_heads(module: nn.Module) -> list[nn.Module]:
    """Return the heads inside a module that only groups them, or the module itself."""
    inner = [child for name, child in module.named_children() if is_head(name)]
    return [head for child in inner for head in innermost_heads(child)] or [module]


def synchronize_with(device: torch.device) -> Callable[[], None]:
    """Return a function that waits for the work on a device."""
    if device.type != 'cuda':
        return lambda: None
    return functools.partial(torch.cuda.synchronize, device)


def describe_shares(seconds: Counter[str], iterations: int) -> dict:
    """Return the time of a loop for `result.json`: iterations, seconds and shares by phase."""
    total = sum(seconds.values())
    known = [phase for phase in PHASES if phase in seconds]
    return {
        'iterations': iterations,
        'seconds': {phase: seconds[phase] for phase in known},
        'shares': {phase: seconds[phase] / total if total else 0.0 for phase in known},
    }


def render_shares(loop: str, described: dict) -> str:
    """Render the output of `describe_shares` as a Markdown table."""
    columns = (
        Column('Phase', 'Phase', numeric=False),
        Column('ms per step', ''),
        Column('share (%)', ''),
    )
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
