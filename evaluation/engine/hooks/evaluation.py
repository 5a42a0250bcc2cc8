"""Evaluate while training: change nothing in the training, measure the saved model, miss nothing."""

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
    """Evaluates a checkpoint that a training goes on from, where it is due and has no `result.json` yet.

    Checkpoints are written before they are evaluated, and mmengine goes on with the next step. Without
    this, a training that was killed in its last evaluation would never have its result.
    """

    # After all that others do before a training.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Evaluate, if need be."""
        missed = [is_due(runner) and not has_result(runner)]
        broadcast_object_list(missed)
        if missed[0]:
            runner.logger.info(f'{runner.cfg.load_from} was not evaluated yet: it is now')
            runner.val_loop.run()


def is_due(runner: Runner) -> bool:
    """Whether a training that goes on from a checkpoint of its work dir should have evaluated it."""
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
    """Whether that very file was evaluated; true as well where evaluations leave no `result.json`."""
    if not any(isinstance(hook, ResultHook) for hook in runner.hooks):
        return True
    digest = file_sha256(Path(runner.cfg.load_from))
    return any(its == digest for its in _evaluated(Path(runner.work_dir)))


def _evaluated(work_dir: Path) -> Iterator[str | None]:
    """Digests of the checkpoints that a training's results are of."""
    for file in work_dir.glob('*/*/result.json'):
        try:
            yield json.loads(file.read_text())['checkpoint']['sha256']
        except (OSError, ValueError, KeyError, TypeError):
            continue


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Keeps evaluation out of the training's random numbers, and goes on with them after a resume.

    Their states are stored by `BenchmarkRunner.save_checkpoint`, one a process.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.before_evaluation: RandomState | None = None
        self.to_resume: RandomState | None = None

    def before_train(self, runner: Runner) -> None:
        """Take what the checkpoint holds for this process, if it is one to resume from."""
        states = runner.resumed_random_states
        if states is None:
            return
        if len(states) != runner.world_size:
            runner.logger.warning(
                f'the checkpoint is of {len(states)} processes and these are {runner.world_size}: '
                'random numbers start anew'
            )
            return
        self.to_resume = states[runner.rank]

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Resume where all is as it was: data loaders draw from generators of their own."""
        if self.to_resume is not None:
            restore_random_state(self.to_resume)
        self.to_resume = None

    def before_val(self, runner: Runner) -> None:
        """Note the state."""
        self.before_evaluation = random_state()

    def after_val(self, runner: Runner) -> None:
        """Put it back."""
        if self.before_evaluation is not None:
            restore_random_state(self.before_evaluation)
        self.before_evaluation = None


@HOOKS.register_module()
class SharedStatisticsHook(Hook):
    """Before an evaluation, gives all processes the running statistics of the first.

    Without SyncBN, as on the CPU, each process has statistics of its own batches in its batch norms. A
    checkpoint holds those of the first; evaluated by others, another model would be measured than the
    one that is saved, and another after a resume than before.
    """

    # After averaged weights are put in place.
    priority = 'VERY_LOW'

    def before_val_epoch(self, runner: Runner) -> None:
        """Hand them out."""
        if get_world_size() > 1:
            for buffer in unwrapped(runner.model).buffers():
                broadcast(buffer)
