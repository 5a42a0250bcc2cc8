"""Hooks of trainings: checkpoints that are whole, and losses that are no longer finite."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

from evaluation.config.run_settings import any_checkpoint
from evaluation.utils.errors import UserError, warn
from evaluation.utils.files import write_text

# So that one is left if the other turns out to be damaged.
KEPT_WHILE_TRAINING = 2
# Beside a checkpoint, until it is whole.
UNFINISHED = '.tmp'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """`CheckpointHook` that removes an older checkpoint only when the newer one is whole.

    mmengine's own removes it first. With `max_keep_ckpts` this one keeps so many, and at least two as
    long as the training goes on; without it, it keeps all. `last_checkpoint` is exchanged as a whole,
    after the checkpoint that it names.
    """

    def before_train(self, runner: Runner) -> None:
        """Remove what a training that was killed left unfinished, and what is beyond those to keep."""
        wished, self.max_keep_ckpts = self.max_keep_ckpts, -1
        super().before_train(runner)
        self.max_keep_ckpts = wished
        self._remove_unfinished()
        self._remove_older(runner, at_least=KEPT_WHILE_TRAINING)

    def after_train(self, runner: Runner) -> None:
        """Leave as many checkpoints as are wanted."""
        super().after_train(runner)
        self._remove_older(runner, at_least=1)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, then name it in `last_checkpoint`, then remove older ones."""
        self.last_ckpt = self._path(step)
        kept = runner.message_hub.get_info('keep_ckpt_ids', [])
        if self.max_keep_ckpts > 0:
            # One that was begun and not ended is written anew.
            kept = [*(each for each in kept if each < step), step]
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
        self._remove_older(runner, at_least=KEPT_WHILE_TRAINING)

    def _remove_older(self, runner: Runner, at_least: int) -> None:
        """Remove all but the last `max_keep_ckpts` checkpoints, or but the last `at_least`."""
        if self.max_keep_ckpts <= 0:
            return
        steps = runner.message_hub.get_info('keep_ckpt_ids', [])
        surplus = steps[: -max(self.max_keep_ckpts, at_least)]
        runner.message_hub.update_info('keep_ckpt_ids', steps[len(surplus) :])
        if not is_main_process():
            return
        for step in surplus:
            if self.file_backend.isfile(self._path(step)):
                self.file_backend.remove(self._path(step))

    @master_only
    def _remove_unfinished(self) -> None:
        for file in Path(self.out_dir).glob(any_checkpoint(self.filename_tmpl) + UNFINISHED):
            file.unlink()

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))


# Of an infinite loss in mixed precision, whose step the loss scaler leaves out.
TOLERATED_IN_A_ROW = 5
SHOWN = 8
REMEDY = (
    'look at these images, limit the gradients (optim_wrapper.clip_grad.max_norm=1), '
    'or train anew with a lower optim_wrapper.optimizer.lr'
)


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Ends a training in the iteration whose loss is NaN or infinite, and saves no such weights.

    mmengine reads the loss of every iteration back from the GPU for its log in any case, so that a look
    at it costs no waiting. Weights are looked at when they are saved: the gradients of a finite loss may
    be infinite.

    Under dynamic loss scaling infinite gradients are usual, and the scaler leaves their step out. It
    does so for an infinite loss as well, hence `TOLERATED_IN_A_ROW`. NaN is never tolerated: it is in
    activations, and the running statistics of batch norms take it from there.
    """

    # After the hook that reads the loss back; before those of logs, averaged weights and checkpoints.
    priority = 'HIGH'

    def __init__(self) -> None:
        self.infinite_in_a_row = 0
        self.iteration = 0
        self.images: list[str] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Mapping | None = None,
        outputs: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Look at the loss, the sum of all `outputs` that are losses.

        Raises:
            UserError: it is NaN, or infinite and not to be tolerated.
        """
        self.iteration = runner.iter + 1
        self.images = image_names(data_batch['data_samples'])
        loss = outputs['loss'].item()
        if math.isfinite(loss):
            self.infinite_in_a_row = 0
            return
        self.infinite_in_a_row += 1
        what = f'the loss{_parts(outputs)} is {loss}'
        scaled = getattr(runner.optim_wrapper, 'loss_scaler', None) is not None
        if scaled and math.isinf(loss) and self.infinite_in_a_row <= TOLERATED_IN_A_ROW:
            warn(f'{what} {self._where(runner)}; its step is left out')
            return
        raise UserError(f'{what} {self._where(runner)}; {REMEDY}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Look at the weights that are to be saved.

        Raises:
            UserError: some are no finite numbers.
        """
        weights = checkpoint['state_dict']
        bad = [name for name, value in weights.items() if not _is_finite(value)]
        if bad:
            raise UserError(
                f'weights, such as {bad[0]}, are no finite numbers, in {len(bad)} of {len(weights)} '
                f'tensors, and are not saved, {self._where(runner)}; {REMEDY}'
            )

    def _where(self, runner: Runner) -> str:
        rate = runner.message_hub.get_scalar('train/lr').current()
        return f'at iteration {self.iteration}, learning rate {rate:.3g}, images {_short(self.images)}'


def image_names(samples: Iterable) -> list[str]:
    """File names of a batch's images, from samples as OpenMMLab's pipelines pack them."""
    return [Path(getattr(sample, 'img_path', '?')).name for sample in samples]


def _short(names: Sequence[str]) -> str:
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more


def _parts(outputs: Mapping[str, Tensor]) -> str:
    """Those losses that are not finite, where the whole is a sum."""
    names = [name for name in outputs if name != 'loss' and 'loss' in name]
    bad = [name for name in names if not _is_finite(outputs[name])]
    return f' ({", ".join(bad)})' if bad else ''


def _is_finite(value: object) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())
