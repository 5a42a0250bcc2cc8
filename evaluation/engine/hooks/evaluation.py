"""Evaluate during training, without side effects on it, on the saved weights, and none omitted."""

import json
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import broadcast, broadcast_object_list, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from evaluation.engine.hooks.result_hook import ResultHook
from evaluation.models.model_weights import unwrapped
from evaluation.utils.files import file_sha256
from evaluation.utils.random_state import RandomState, random_state, restore_random_state


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
