"""Makes up for an evaluation that a training was stopped before, or in."""

import json
from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from evaluation.engine.hooks.result import ResultHook
from evaluation.utils.files import file_sha256


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
