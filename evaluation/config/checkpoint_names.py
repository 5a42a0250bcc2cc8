"""Names of the checkpoints that a training saves."""

import re

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from evaluation.config.types import setting
from evaluation.utils.errors import UserError

PLACE = 'default_hooks.checkpoint.filename_tmpl'


def check_checkpoint_names(cfg: Config) -> None:
    """Check that names of checkpoints end in their number, by which the latest is found.

    Raises:
        UserError: they do not, or cannot be formatted.
    """
    template = setting(cfg, PLACE)
    if template is None:
        return
    try:
        name = template.format(1234567)
    except (AttributeError, ValueError, KeyError, IndexError):
        name = ''
    if not re.fullmatch(r'[^/]*?1234567\.pth', name):
        raise UserError(
            f"{PLACE}={template!r}: give a name that ends in the number, such as 'epoch_{{}}.pth' or "
            "'step_{:06d}.pth'"
        )


def final_checkpoint(cfg: Config) -> str:
    """The name of the checkpoint at the end of a training."""
    epochs, iterations = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    template = setting(cfg, PLACE) or ('epoch_{}.pth' if epochs else 'iter_{}.pth')
    return template.format(epochs or iterations)


def checkpoint_of_step(runner: Runner, by_epoch: bool) -> str:
    """The name of the checkpoint of the step that a training has reached."""
    default = 'epoch_{}.pth' if by_epoch else 'iter_{}.pth'
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    template = next((hook.filename_tmpl for hook in hooks if hook.by_epoch == by_epoch), default)
    return template.format(runner.epoch if by_epoch else runner.iter)


def any_checkpoint(template: str) -> str:
    """A pattern, as of `Path.glob`, of all names that a template gives."""
    return re.sub(r'\{[^{}]*\}', '*', template)
