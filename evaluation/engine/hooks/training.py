"""Hooks for training: intact checkpoints, finite values, and evaluations without side effects."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.dist import broadcast, broadcast_object_list, get_world_size, is_main_process, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor

from evaluation.config.run_settings import any_checkpoint
from evaluation.engine.hooks.result_hook import ResultHook
from evaluation.models.model_weights import unwrapped
from evaluation.utils.errors import UserError, warn
from evaluation.utils.files import file_sha256, write_text
from evaluation.utils.random_state import RandomState, random_state, restore_random_state

# Two, so that one is left if the other is damaged.
KEPT_WHILE_TRAINING = 2
# Suffix of a checkpoint while it is being written.
UNFINISHED = '.tmp'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """`CheckpointHook` that removes an older checkpoint only after the newer one is complete.

    mmengine's own hook removes it first. This hook keeps `max_keep_ckpts` checkpoints, and at least two
    during training; all if it is not set. `last_checkpoint` is replaced atomically, after the
    checkpoint that it names is written.
    """

    def before_train(self, runner: Runner) -> None:
        """Remove unfinished checkpoints of a killed training, and those beyond the number to keep."""
        wished, self.max_keep_ckpts = self.max_keep_ckpts, -1
        super().before_train(runner)
        self.max_keep_ckpts = wished
        self._remove_unfinished()
        self._remove_older(runner, at_least=KEPT_WHILE_TRAINING)

    def after_train(self, runner: Runner) -> None:
        """Remove all but the last `max_keep_ckpts` checkpoints."""
        super().after_train(runner)
        self._remove_older(runner, at_least=1)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, then name it in `last_checkpoint`, then remove older ones."""
        self.last_ckpt = self._path(step)
        kept = runner.message_hub.get_info('keep_ckpt_ids', [])
        if self.max_keep_ckpts > 0:
            # A checkpoint that was started but not finished is written again.
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
        """Remove all but the last `max_keep_ckpts` checkpoints; keep at least `at_least`."""
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


# Infinite losses in mixed precision, whose steps the loss scaler skips.
TOLERATED_IN_A_ROW = 5
SHOWN = 8
REMEDY = (
    'check these images, clip gradients (optim_wrapper.clip_grad.max_norm=1), '
    'or train again with a lower optim_wrapper.optimizer.lr'
)


@HOOKS.register_module()
class DivergenceHook(Hook):
    """Stops a training at the first NaN or infinite loss, and refuses to save non-finite weights.

    mmengine reads the loss of every iteration back from the GPU for its log anyway, so checking it
    adds no synchronization. Weights are checked when they are saved, since a finite loss can have
    infinite gradients.

    Under dynamic loss scaling infinite gradients are common, and the scaler skips their steps. It also
    skips steps with an infinite loss, hence `TOLERATED_IN_A_ROW`. NaN is never tolerated: it comes from
    activations, and spreads to the running statistics of batch norms.
    """

    # After the hook that reads the loss back; before the logger, EMA and checkpoint hooks.
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
        """Check the loss, the sum of all losses in `outputs`.

        Raises:
            UserError: the loss is NaN, or infinite and not tolerated.
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
            warn(f'{what} {self._where(runner)}; this step is skipped')
            return
        raise UserError(f'{what} {self._where(runner)}; {REMEDY}')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights before they are saved.

        Raises:
            UserError: some weights are non-finite.
        """
        weights = checkpoint['state_dict']
        bad = [name for name, value in weights.items() if not _is_finite(value)]
        if bad:
            raise UserError(
                f'non-finite weights in {len(bad)} of {len(weights)} tensors, such as {bad[0]}, '
                f'are not saved, {self._where(runner)}; {REMEDY}'
            )

    def _where(self, runner: Runner) -> str:
        rate = runner.message_hub.get_scalar('train/lr').current()
        return f'at iteration {self.iteration}, learning rate {rate:.3g}, images {_short(self.images)}'


def image_names(samples: Iterable) -> list[str]:
    """Return the file names of a batch's images, from data samples of OpenMMLab's pipelines."""
    return [Path(getattr(sample, 'img_path', '?')).name for sample in samples]


def _short(names: Sequence[str]) -> str:
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more


def _parts(outputs: Mapping[str, Tensor]) -> str:
    """Return the names of the non-finite losses in parentheses, if the loss is a sum of several."""
    names = [name for name in outputs if name != 'loss' and 'loss' in name]
    bad = [name for name in names if not _is_finite(outputs[name])]
    return f' ({", ".join(bad)})' if bad else ''


def _is_finite(value: object) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


@HOOKS.register_module()
class MissedEvaluationHook(Hook):
    """Evaluates the resumed checkpoint if its evaluation is due and it has no `result.json` yet.

    Checkpoints are written before they are evaluated, and mmengine resumes with the next step. Without
    this hook, a training that was killed in its last evaluation would never get its result.
    """

    # After everything that other hooks do before a training.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Evaluate if necessary."""
        missed = [is_due(runner) and not has_result(runner)]
        broadcast_object_list(missed)
        if missed[0]:
            runner.logger.info(f'{runner.cfg.load_from} was not evaluated yet; evaluating it now')
            runner.val_loop.run()


def is_due(runner: Runner) -> bool:
    """Return whether a training that resumes a checkpoint of its work dir should have evaluated it."""
    file = runner.cfg.get('load_from')
    if not (runner.cfg.get('resume') and file and runner.val_loop is not None):
        return False
    if Path(file).resolve().parent != Path(runner.work_dir).resolve():
        return False
    loop = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        done, end = loop.epoch, loop.max_epochs
    else:
        done, end = loop.iter, loop.max_iters
    return done >= loop.val_begin and (done % loop.val_interval == 0 or done == end)


def has_result(runner: Runner) -> bool:
    """Return whether this exact file was evaluated; also true if no hook writes `result.json`."""
    if not any(isinstance(hook, ResultHook) for hook in runner.hooks):
        return True
    digest = file_sha256(Path(runner.cfg.load_from))
    return any(its == digest for its in _evaluated(Path(runner.work_dir)))


def _evaluated(work_dir: Path) -> Iterator[str | None]:
    """Yield the digests of the checkpoints that a training has evaluated."""
    for file in work_dir.glob('*/*/result.json'):
        try:
            yield json.loads(file.read_text())['checkpoint']['sha256']
        except (OSError, ValueError, KeyError, TypeError):
            continue


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Keeps the training's random state unchanged by evaluation, and restores it after a resume.

    `BenchmarkRunner.save_checkpoint` stores the state of each process.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.before_evaluation: RandomState | None = None
        self.to_resume: RandomState | None = None

    def before_train(self, runner: Runner) -> None:
        """Take this process's state from the checkpoint, if a training is resumed."""
        states = runner.resumed_random_states
        if states is None:
            return
        if len(states) != runner.world_size:
            runner.logger.warning(
                f'the checkpoint was written by {len(states)} processes, and this run has '
                f'{runner.world_size}; random states are not restored'
            )
            return
        self.to_resume = states[runner.rank]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Restore the state before the first step; data loaders use separate generators."""
        if self.to_resume is not None:
            restore_random_state(self.to_resume)
        self.to_resume = None

    def before_val(self, runner: Runner) -> None:
        """Save the random state."""
        self.before_evaluation = random_state()

    def after_val(self, runner: Runner) -> None:
        """Restore the random state."""
        if self.before_evaluation is not None:
            restore_random_state(self.before_evaluation)
        self.before_evaluation = None


@HOOKS.register_module()
class SharedStatisticsHook(Hook):
    """Gives all processes the running statistics of the first process before an evaluation.

    Without SyncBN, as on the CPU, the batch norms of each process have the statistics of its own
    batches. A checkpoint holds those of the first process. If other processes evaluated with theirs,
    the result would not be that of the saved model, and would change after a resume.
    """

    # After the EMA hook has swapped in the averaged weights.
    priority = 'VERY_LOW'

    def before_val_epoch(self, runner: Runner) -> None:
        """Broadcast the statistics."""
        if get_world_size() > 1:
            for buffer in unwrapped(runner.model).buffers():
                broadcast(buffer)
