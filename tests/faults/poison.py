"""A hook that spoils a training as numbers out of range do."""

import json
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from evaluation.models.model_weights import unwrapped


class PoisonHook(Hook):
    """Makes a weight NaN.

    Args:
        iteration: in which, the first is 1.
        after: whether after its step, so that its loss is still finite.
        rank: of the process that it happens in.
        witness: file that gets the paths of that iteration's images.
    """

    # Before the hook that looks at weights to be saved.
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
