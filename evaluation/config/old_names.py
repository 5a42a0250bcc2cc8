"""Settings of earlier versions of OpenMMLab, which nothing or not enough reads today."""

from mmengine.config import Config

from evaluation.config.types import setting
from evaluation.utils.errors import UserError

# Settings that load weights unseen, or not at all.
PRETRAINED = ('model', 'model.backbone')
# Settings that are silently ignored: what has the same meaning today, and how to write it.
IGNORED = {
    'seed': ('randomness.seed', 'randomness=dict(seed={!r}), or --seed'),
    'deterministic': ('randomness.deterministic', 'randomness=dict(deterministic={!r})'),
    'resume_from': ('load_from', 'load_from={!r} with resume=True, or --resume'),
    'auto_resume': ('resume', 'resume={!r}, or --resume'),
}


def check_old_names(cfg: Config, is_training: bool) -> None:
    """Check that a config has no setting of a training under the name that it had in an earlier version.

    Weights that a test would replace at once are dropped.

    Args:
        cfg: changed where it is tested.
        is_training: whether it is trained.

    Raises:
        UserError: it has; the message says what to write instead.
    """
    for place in PRETRAINED:
        holder = setting(cfg, place)
        if not isinstance(holder, dict) or not isinstance(holder.get('pretrained'), str):
            continue
        file = holder['pretrained']
        if not is_training:
            holder.pop('pretrained')
        elif file:
            raise UserError(
                f'{place}.pretrained={file!r} is of an earlier version; give --pretrained {file}, or '
                f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint={file!r})"
            )
    for name, (today, advice) in IGNORED.items():
        value = cfg.get(name)
        # A config may use the name for a value that it sets elsewhere.
        if is_training and value not in (None, False) and setting(cfg, today) != value:
            raise UserError(f'{name}={value!r} is read by nothing; give {advice.format(value)}')
