"""mmengine's checkpoint hook, by which a training always has a whole checkpoint to go on from."""

from pathlib import Path

from mmengine.dist import is_main_process, master_only
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from evaluation.config.run_settings import any_checkpoint
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
