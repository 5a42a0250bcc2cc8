"""Random numbers of a training: the same whether it is evaluated and interrupted on the way or not."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from evaluation.utils.random_state import RandomState, random_state, restore_random_state


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
