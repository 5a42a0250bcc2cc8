"""Settings of a run: seed, work dir, batch size, names of its checkpoints, and what it may resume from.

The command line wins over the config only where an option is given.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from evaluation.config.config_text import read_literals
from evaluation.config.settings import setting
from evaluation.utils.errors import UserError, warn
from evaluation.utils.formats import LARGEST
from evaluation.utils.process_groups import process_count

DEFAULT_SEED = 0
LATEST = 'latest'
# What OpenMMLab's `--resume` takes for the latest checkpoint.
AUTO = 'auto'
PLACE = 'default_hooks.checkpoint.filename_tmpl'
# What makes an experiment. Elsewhere configs may differ: where data lie, how they are loaded, what is
# logged, evaluated and saved.
SAME = (
    'model',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'train_dataloader',
    'auto_scale_lr',
)
# The first differences that a message names.
FIRST = ('model.type', 'model.backbone.type', 'model.backbone.mixer.type', 'model.backbone.dims')
SHOWN = 2
# Parts of an experiment that do not change what it computes: memory, precision, weights at the start,
# speed, and where files lie.
FREE = re.compile(
    r'model\.roi_head\.(train|test)_cfg(\..*)?'  # copies that mmdet makes of what is compared itself
    r'|.*init_cfg(\..*)?|.*\.with_cp|model\.test_cfg(\..*)?'
    r'|optim_wrapper\.(type|loss_scale|dtype)|train_cfg\.(val_interval|val_begin|dynamic_intervals.*)'
    r'|train_dataloader\.(num_workers|persistent_workers|prefetch_factor|pin_memory)'
    r'|train_dataloader\.dataset\.(.*\.)?(data_root|data_prefix(\..*)?|ann_file)'
    r'|.*\.(backend_args|file_client_args)(\..*)?'
)
# Parts that change the rest of the training, which may be wanted.
WARNED = re.compile(
    r'train_cfg\.max_(epochs|iters)|(train_dataloader|auto_scale_lr)\..*'
    r'|optim_wrapper\.(accumulative_counts|clip_grad(\..*)?)'
)
MISSING = 'nothing'


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


def accumulated_batches(cfg: Config) -> int:
    """How many batches of a process go into one step of the optimizer."""
    return (cfg.get('optim_wrapper') or {}).get('accumulative_counts') or 1


def effective_batch_size(cfg: Config, processes: int) -> int:
    """Images of one step of the optimizer: of all processes and all accumulated batches.

    Args:
        cfg: with `train_dataloader` and `optim_wrapper`.
        processes: how many share the training.
    """
    return cfg.train_dataloader.batch_size * processes * accumulated_batches(cfg)


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


def check_same_experiment(cfg: Config, checkpoint: dict, source: str) -> None:
    """Compare the config of a training with the one that a checkpoint was written under.

    Args:
        cfg: of the training that is to go on.
        checkpoint: with mmengine's `meta`.
        source: where it comes from, for messages.

    Raises:
        UserError: model, optimisation or schedule differ; the message names the first differences.
    """
    meta = checkpoint.get('meta', {})
    text = meta.get('cfg')
    theirs = read_literals(text) if isinstance(text, str) else {}
    if 'model' not in theirs:
        warn(f'{source} does not say which config it was trained with: it may be of another experiment')
        return
    found = list(differences(cfg.to_dict(), theirs))
    refused = [key for key, *_ in found if not WARNED.fullmatch(key)]
    lines = {
        key: f'{key} is {_short(ours)} here and {_short(other)} there' for key, ours, other in found
    }
    if refused:
        refused.sort(key=lambda key: (FIRST.index(key) if key in FIRST else len(FIRST), key.count('.')))
        more = f', and {len(refused) - SHOWN} more' if len(refused) > SHOWN else ''
        raise UserError(
            f'{source} is of another experiment: '
            f'{", ".join(lines[key] for key in refused[:SHOWN])}{more}; '
            'give the config that it was trained with, or another --work-dir'
        )
    for line in lines.values():
        warn(f'going on from {source}: {line}')
    images = effective_batch_size(cfg, process_count())
    before = meta.get('training', {}).get('batch_size')
    if 'train_dataloader.batch_size' not in lines and before not in (None, images):
        warn(f'going on from {source}: a step has {images} images here and {before} there')


def check_config_of(checkpoint: dict, source: str, cfg: Config) -> None:
    """Demand that a checkpoint was written under the very config of a training.

    Args:
        checkpoint: with mmengine's `meta`.
        source: where it comes from, for messages.
        cfg: the config, with its digests.

    Raises:
        UserError: it was another, or the checkpoint does not say which.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    theirs = read_literals(text).get('config_sha256') if isinstance(text, str) else None
    ours = cfg.config_sha256
    if theirs is None or theirs not in (ours, cfg.config_sha256_version_1):
        raise UserError(
            f'{source} was trained under a different config (digest {str(theirs)[:8]}, not {ours[:8]}); '
            'give a different --work-dir'
        )


def differences(ours: dict, theirs: dict) -> Iterator[tuple[str, object, object]]:
    """Dotted keys of an experiment's settings that differ between two configs, with both values."""
    for part in SAME:
        yield from _differences(ours.get(part, MISSING), theirs.get(part, MISSING), part)


def _differences(ours: object, theirs: object, key: str) -> Iterator[tuple[str, object, object]]:
    if FREE.fullmatch(key):
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in dict.fromkeys([*ours, *theirs]):
            yield from _differences(ours.get(name, MISSING), theirs.get(name, MISSING), f'{key}.{name}')
    elif isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        for index in range(max(len(ours), len(theirs))):
            one, other = (v[index] if index < len(v) else MISSING for v in (ours, theirs))
            yield from _differences(one, other, f'{key}.{index}')
    elif ours != theirs:
        yield key, ours, theirs


def _short(value: object) -> str:
    text = MISSING if value is MISSING else repr(value)
    return text if len(text) <= 40 else f'{text[:37]}...'
