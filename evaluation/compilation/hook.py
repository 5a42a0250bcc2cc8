"""Compiles the model of a run, and says at its end what that took."""

import time
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch._dynamo.callback import CallbackArgs, callback_handler
from torch._dynamo.utils import counters

from evaluation.compilation.regions import compile_model
from evaluation.model_loading import unwrapped


class CompilationClock:
    """Adds up the time that PyTorch's compiler takes in this process, from `start` to `stop`.

    Attributes:
        seconds: so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began: float | None = None

    def start(self) -> None:
        """Listen to the compiler."""
        callback_handler.register_start_callback(self._begin)
        callback_handler.register_end_callback(self._end)

    def stop(self) -> None:
        """Listen no more."""
        callback_handler.remove_start_callback(self._begin)
        callback_handler.remove_end_callback(self._end)

    def _begin(self, _: CallbackArgs) -> None:
        self._began = time.perf_counter()

    def _end(self, _: CallbackArgs) -> None:
        self.seconds += time.perf_counter() - self._began


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles a detector or segmentor before the first step.

    At the end the log has the number of graphs, what compiling took, and how long a step took once
    nothing was left to compile: of the training, or of the test where there is none.

    Args:
        backend: of `torch.compile`.
    """

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.clock = CompilationClock()
        self.steady_seconds: list[float] = []
        self.steps = 0
        self._graphs_before = 0
        self._step_began = self._compiled_before = 0.0

    def before_run(self, runner: Runner) -> None:
        """Compile, which happens at the first call of each part."""
        self._graphs_before = counters['stats']['unique_graphs']
        self.clock.start()
        compile_model(unwrapped(runner.model), self.backend)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | Sequence | None = None
    ) -> None:
        """Start a step."""
        self._step_began, self._compiled_before = time.perf_counter(), self.clock.seconds

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | Sequence | None = None,
        outputs: dict | Sequence | None = None,
    ) -> None:
        """End a step; one in which something was compiled does not count."""
        self.steps += 1
        if self.clock.seconds == self._compiled_before:
            self.steady_seconds.append(time.perf_counter() - self._step_began)

    before_test_iter = before_train_iter
    after_test_iter = after_train_iter

    def after_run(self, runner: Runner) -> None:
        """Log what became of it."""
        self.clock.stop()
        graphs = counters['stats']['unique_graphs'] - self._graphs_before
        print_log(
            f'torch.compile ({self.backend}): {graphs} graphs in {self.clock.seconds:.0f} s; '
            f'{describe_steps(self.steady_seconds, self.steps)}',
            logger='current',
        )


def describe_steps(steady_seconds: Sequence[float], steps: int) -> str:
    """How long steps took in which nothing was compiled, in words.

    Args:
        steady_seconds: of each.
        steps: how many there were in all.
    """
    if not steady_seconds:
        return f'something was compiled in each of {steps} steps'
    mean = sum(steady_seconds) / len(steady_seconds)
    return f'in {len(steady_seconds)} of {steps} steps nothing was left to compile: {mean:.3f} s a step'
