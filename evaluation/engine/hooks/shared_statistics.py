"""Several processes evaluate one model, the one that checkpoints hold."""

from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from evaluation.models.weights import unwrapped


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
