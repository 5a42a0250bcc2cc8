"""A hook that makes a training diverge."""

import json
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from evaluation.models.model_weights import unwrapped


class PoisonHook(Hook):
    """Sets a weight to NaN.

    Args:
        iteration: number of the iteration, counted from 1.
        after: whether to change the weight after the step, so that the loss is still finite.
        rank: rank of the process in which the weight is changed.
        witness: file for the paths of that iteration's images.
    """

    # Run before the hook that checks weights before they are saved.
    priority = 'HIGHEST'

    def __init__(self, iteration: int, after: bool, rank: int, witness: str) -> None:
        self.iteration, self.after, self.rank, self.witness = iteration, after, rank, witness

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        if not self.after:
            self._poison(runner, data_batch)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        if self.after:
            self._poison(runner, data_batch)

    def _poison(self, runner: Runner, data_batch: dict) -> None:
        if runner.iter + 1 != self.iteration or runner.rank != self.rank:
            return
        paths = [sample.img_path for sample in data_batch['data_samples']]
        Path(self.witness).write_text(json.dumps(paths))
        weight = next(unwrapped(runner.model).parameters())
        weight.data[(0,) * weight.dim()] = float('nan')
