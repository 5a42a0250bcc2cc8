"""Settings of a run that both a config and the command line can give: start, seed and work dir.

The command line wins only where it is given.
"""

import os
from pathlib import Path

from mmengine.config import Config

from evaluation.utils.errors import UserError
from evaluation.utils.formats import LARGEST

DEFAULT_SEED = 0
LATEST = 'latest'
# What OpenMMLab's `--resume` takes for the latest checkpoint.
AUTO = 'auto'


def check_run_settings(cfg: Config) -> None:
    """Check the settings of a config that this module reads.

    Raises:
        UserError: one is of the wrong kind.
    """
    checkpoint_to_resume(cfg, None)
    randomness(cfg, None, is_deterministic=False)


def checkpoint_to_resume(cfg: Config, option: str | None) -> str | None:
    """Return what to resume from: a path or URL, or `latest`; None to start anew.

    Args:
        cfg: `resume=True` is `--resume`, and with `load_from=CHECKPOINT` `--resume CHECKPOINT`.
        option: value of `--resume`.

    Raises:
        UserError: `resume` is neither true nor false.
    """
    wish = cfg.get('resume')
    if wish not in (True, False, None):
        raise UserError(
            f'resume={wish!r} is neither True nor False; give resume=True, and load_from=CHECKPOINT '
            'for another checkpoint than the latest of the work dir'
        )
    if option is not None:
        return LATEST if option == AUTO else option
    return (cfg.get('load_from') or LATEST) if wish else None


def randomness(cfg: Config, seed: int | None, is_deterministic: bool) -> dict[str, object]:
    """Return mmengine's settings of random numbers.

    Args:
        cfg: may have `randomness`.
        seed: value of `--seed`.
        is_deterministic: whether `--deterministic` is given.

    Raises:
        UserError: the config's settings are of the wrong kind.
    """
    given = cfg.get('randomness') or {}
    if not isinstance(given, dict):
        raise UserError(f'randomness={given!r}: give settings, such as dict(seed=42)')
    for name in ('deterministic', 'diff_rank_seed'):
        if given.get(name) not in (True, False, None):
            raise UserError(f'randomness.{name}={given[name]!r}: give True or False')
    own = given.get('seed')
    if own is None:
        own = DEFAULT_SEED
    if type(own) is not int or not 0 <= own <= LARGEST:
        raise UserError(f'randomness.seed={own!r}: give a whole number from 0 to {LARGEST}')
    return {
        **given,
        'seed': own if seed is None else seed,
        'deterministic': is_deterministic or bool(given.get('deterministic')),
    }


def work_dir(cfg: Config, option: str | Path | None, config_file: str) -> str:
    """Return where to write: the option, else the config's `work_dir`, else `work_dirs/<config name>`.

    Raises:
        UserError: the config's is not a path.
    """
    own = cfg.get('work_dir')
    if own is not None and not isinstance(own, (str, Path)):
        raise UserError(f'work_dir={own!r}: give a path')
    return os.path.expanduser(option or own or Path('work_dirs', Path(config_file).stem))
