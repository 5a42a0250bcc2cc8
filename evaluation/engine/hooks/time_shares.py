"""Measures which share of a run is data, forward pass by part, backward pass, metric."""

from collections import Counter
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner

from evaluation.engine.time_shares import (
    Stopwatch,
    Watched,
    describe_shares,
    render_shares,
    synchronize_with,
    watch_parts,
)
from evaluation.models.weights import unwrapped

STEPS = {'train_step': 'losses', 'val_step': 'post-processing', 'test_step': 'post-processing'}
OPTIMIZATION = {'backward': 'backward', 'step': 'optimizer', 'zero_grad': 'optimizer'}
METRICS = {'process': 'metric', 'evaluate': 'evaluation'}


@HOOKS.register_module()
class TimeSharesHook(Hook):
    """Times the phases of every loop of a run, logs them at its end, and hands them to `result.json`.

    On a GPU it waits for the work at every boundary, so that a run is somewhat slower than without.
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
        # Of those that this run does not use there are only settings.
        loops = {'train': runner._train_loop, 'val': runner._val_loop, 'test': runner._test_loop}
        for name, loop in loops.items():
            if isinstance(loop, BaseLoop):
                self._watched.watch_loop(loop, 'run', name)
            if hasattr(loop, 'evaluator'):
                for method, phase in METRICS.items():
                    self._watched.watch(loop.evaluator, method, phase)
        self._watched.watch(runner, 'call_hook', 'hooks')

    def before_train(self, runner: Runner) -> None:
        """Watch the optimizer, and the model as it is now: compiled, where that is asked for."""
        for method, phase in OPTIMIZATION.items():
            self._watched.watch(runner.optim_wrapper, method, phase)
        self._watch_model(runner)

    def before_val(self, runner: Runner) -> None:
        """Count anew, and watch the model if no training has before."""
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
        """Log a table a loop, and take the stopwatch off."""
        for loop, described in self.shares().items():
            print_log(f'\n{render_shares(loop, described)}', logger='current')
        self._watched.restore()

    def shares(self) -> dict[str, dict]:
        """Time of every loop up to now, for `result.json`; of evaluations that of the last."""
        self._stopwatch.book()
        return {
            loop: describe_shares(seconds, self._iterations[loop])
            for loop, seconds in self._stopwatch.seconds.items()
        }


def time_shares(runner: Runner) -> dict[str, dict] | None:
    """What the hook of a run has measured; None where it has none."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, TimeSharesHook)]
    return hooks[0].shares() if hooks else None


def use_time_shares(cfg: Config) -> None:
    """Let a run measure where its time goes."""
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type=TimeSharesHook.__name__)]
