"""Settings of a run: seed, work dir, batch size, checkpoint names, and checks before resuming.

Options that are given override the config.
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
from evaluation.tasks import OF_THE_COMMAND, stated_by_command
from evaluation.utils.errors import UserError, warn
from evaluation.utils.formats import LARGEST
from evaluation.utils.process_groups import process_count

DEFAULT_SEED = 0
LATEST = 'latest'
# OpenMMLab's value of `--resume` for the latest checkpoint.
AUTO = 'auto'
PLACE = 'default_hooks.checkpoint.filename_tmpl'
# Parts that define an experiment. Other parts may differ: location and loading of data, logging,
# evaluation and saving.
SAME = (
    'model',
    'backbone_source_sha256',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'train_dataloader',
    'auto_scale_lr',
)
# Differences that messages name first.
FIRST = (
    *(f'recipe.{fact}' for fact in OF_THE_COMMAND),
    'model.type',
    'model.backbone.type',
    'model.backbone.mixer.type',
    'model.backbone.dims',
)
SHOWN = 2
# Parts of an experiment that may differ: memory, precision, starting weights, speed, and locations of
# files.
FREE = re.compile(
    r'model\.roi_head\.(train|test)_cfg(\..*)?'  # mmdet's copies of settings that are compared elsewhere
    r'|.*init_cfg(\..*)?|.*\.with_cp|model\.test_cfg(\..*)?'
    r'|optim_wrapper\.(type|loss_scale|dtype)|train_cfg\.(val_interval|val_begin|dynamic_intervals.*)'
    r'|train_dataloader\.(num_workers|persistent_workers|prefetch_factor|pin_memory)'
    r'|train_dataloader\.dataset\.(.*\.)?(data_root|data_prefix(\..*)?|ann_file)'
    r'|.*\.(backend_args|file_client_args)(\..*)?'
)
# Parts that change the rest of the training, possibly on purpose.
WARNED = re.compile(
    r'train_cfg\.max_(epochs|iters)|(train_dataloader|auto_scale_lr)\..*'
    r'|optim_wrapper\.(accumulative_counts|clip_grad(\..*)?)'
)
MISSING = 'nothing'
LOADER = 'train_dataloader'
# Digest of the list of training images, if they are a fraction.
LIST = 'images_sha256'


def check_run_settings(cfg: Config) -> None:
    """Check the settings of a config that this module reads.

    Raises:
        UserError: a setting has the wrong type.
    """
    checkpoint_to_resume(cfg, None)
    randomness(cfg, None, is_deterministic=False)


def checkpoint_to_resume(cfg: Config, option: str | None) -> str | None:
    """Return what to resume from: a path, a URL or `latest`; None to start from the beginning.

    Args:
        cfg: config; `resume=True` means `--resume`, or `--resume CHECKPOINT` with
            `load_from=CHECKPOINT`.
        option: value of `--resume`.

    Raises:
        UserError: `resume` is neither true nor false.
    """
    wish = cfg.get('resume')
    if wish not in (True, False, None):
        raise UserError(
            f'resume={wish!r} is neither True nor False; give resume=True, and load_from=CHECKPOINT '
            'unless it is the latest checkpoint in the work dir'
        )
    if option is not None:
        return LATEST if option == AUTO else option
    return (cfg.get('load_from') or LATEST) if wish else None


def randomness(cfg: Config, seed: int | None, is_deterministic: bool) -> dict[str, object]:
    """Return mmengine's `randomness` settings.

    Args:
        cfg: config, with or without `randomness`.
        seed: value of `--seed`.
        is_deterministic: whether `--deterministic` is given.

    Raises:
        UserError: a setting in the config has the wrong type.
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
    """Return the work dir: the option, else the config's `work_dir`, else `work_dirs/<config name>`.

    Raises:
        UserError: `work_dir` in the config is not a path.
    """
    own = cfg.get('work_dir')
    if own is not None and not isinstance(own, (str, Path)):
        raise UserError(f'work_dir={own!r}: give a path')
    return os.path.expanduser(option or own or Path('work_dirs', Path(config_file).stem))


def accumulated_batches(cfg: Config) -> int:
    """Return how many batches of a process one optimizer step accumulates."""
    return (cfg.get('optim_wrapper') or {}).get('accumulative_counts') or 1


def effective_batch_size(cfg: Config, processes: int) -> int:
    """Return the images per optimizer step, over all processes and accumulated batches.

    Args:
        cfg: config with `train_dataloader` and `optim_wrapper`.
        processes: number of processes.
    """
    return cfg.train_dataloader.batch_size * processes * accumulated_batches(cfg)


def check_checkpoint_names(cfg: Config) -> None:
    """Check that checkpoint names end in their number, which identifies the latest one.

    Raises:
        UserError: they do not, or the template cannot be formatted.
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
    """Return the name of the last checkpoint of a training."""
    epochs, iterations = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    template = setting(cfg, PLACE) or ('epoch_{}.pth' if epochs else 'iter_{}.pth')
    return template.format(epochs or iterations)


def checkpoint_of_step(runner: Runner, by_epoch: bool) -> str:
    """Return the name of the checkpoint of the current step."""
    default = 'epoch_{}.pth' if by_epoch else 'iter_{}.pth'
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    template = next((hook.filename_tmpl for hook in hooks if hook.by_epoch == by_epoch), default)
    return template.format(runner.epoch if by_epoch else runner.iter)


def any_checkpoint(template: str) -> str:
    """Return a `Path.glob` pattern for all names of a template."""
    return re.sub(r'\{[^{}]*\}', '*', template)


def check_same_experiment(cfg: Config, checkpoint: dict, source: str) -> None:
    """Check that a training can resume from a checkpoint: their configs must describe one experiment.

    Args:
        cfg: config of the training to resume.
        checkpoint: checkpoint with mmengine's `meta`.
        source: file or URL of the checkpoint, for messages.

    Raises:
        UserError: model, optimization or schedule differ; the message names the first differences.
    """
    meta = checkpoint.get('meta', {})
    text = meta.get('cfg')
    theirs = read_literals(text) if isinstance(text, str) else {}
    if 'model' not in theirs:
        warn(f'{source} does not store its config: it may belong to a different experiment')
        return
    _check_same_images(cfg.to_dict(), theirs, source)
    found = list(differences(cfg.to_dict(), theirs))
    refused = [key for key, *_ in found if not WARNED.fullmatch(key)]
    lines = {
        key: f'{key} is {_short(ours)} here and {_short(other)} there' for key, ours, other in found
    }
    if refused:
        refused.sort(key=lambda key: (FIRST.index(key) if key in FIRST else len(FIRST), key.count('.')))
        more = f', and {len(refused) - SHOWN} more' if len(refused) > SHOWN else ''
        raise UserError(
            f'{source} belongs to a different experiment: '
            f'{", ".join(lines[key] for key in refused[:SHOWN])}{more}; '
            'give the config that it was trained with, or a different --work-dir'
        )
    for line in lines.values():
        warn(f'resuming from {source}: {line}')
    images = effective_batch_size(cfg, process_count())
    before = meta.get('training', {}).get('batch_size')
    if 'train_dataloader.batch_size' not in lines and before not in (None, images):
        warn(f'resuming from {source}: a step has {images} images here and {before} there')


def _check_same_images(ours: dict, theirs: dict, source: str) -> None:
    """Check that two trainings on a fraction of the images have the same list of images.

    Raises:
        UserError: the lists differ although fraction and seed are the same.
    """
    if stated_by_command(ours.get('recipe')) != stated_by_command(theirs.get('recipe')):
        return
    here, there = ({*_values_of(config.get(LOADER), LIST)} for config in (ours, theirs))
    if here and there and here != there:
        one, other = (min(digests)[:8] for digests in (here, there))
        raise UserError(
            f'{source} was trained on a different list of images ({other}, not {one}), from different '
            'data or ids; give the data that it was trained on, or a different --work-dir'
        )


def _values_of(value: object, name: str) -> Iterator[str]:
    """Yield all values of a setting, at any depth."""
    if isinstance(value, dict) and name in value:
        yield str(value[name])
    if isinstance(value, (dict, list)):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _values_of(below, name)


def warn_of_different_backbone(cfg: Config, checkpoint: dict, source: str) -> None:
    """Warn if the weights of a checkpoint fit, but were trained in a different backbone class.

    Args:
        cfg: config of the test.
        checkpoint: checkpoint with mmengine's `meta`.
        source: file or URL of the checkpoint, for the message.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    theirs = read_literals(text) if isinstance(text, str) else {}
    backbone = (theirs.get('model') or {}).get('backbone') or {}
    kinds = [str(settings.get('type')) for settings in (cfg.model.backbone, backbone)]
    # One may have the scope of a library, as in `mmdet.ResNet`.
    is_same = f'.{kinds[0]}'.endswith(f'.{kinds[1]}') or f'.{kinds[1]}'.endswith(f'.{kinds[0]}')
    if backbone and not is_same:
        warn(f'{source} was trained with model.backbone.type {kinds[1]}, and is tested with {kinds[0]}')
    elif backbone and theirs.get('backbone_source_sha256') != cfg.get('backbone_source_sha256'):
        warn(f'the source code of {kinds[0]} has changed since the training of {source}')


def check_config_of(checkpoint: dict, source: str, cfg: Config) -> None:
    """Check that a checkpoint was written with exactly this config.

    Args:
        checkpoint: checkpoint with mmengine's `meta`.
        source: file or URL of the checkpoint, for messages.
        cfg: config of the training, with its digests.

    Raises:
        UserError: the config was different, or the checkpoint does not store it.
    """
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    theirs = read_literals(text).get('config_sha256') if isinstance(text, str) else None
    ours = cfg.config_sha256
    if theirs is None or theirs not in (ours, cfg.config_sha256_version_1):
        raise UserError(
            f'{source} was trained with a different config (digest {str(theirs)[:8]}, not {ours[:8]}); '
            'give a different --work-dir'
        )


def differences(ours: dict, theirs: dict) -> Iterator[tuple[str, object, object]]:
    """Yield the dotted keys of experiment settings that differ between two configs, with both values."""
    for part in SAME:
        yield from _differences(ours.get(part, MISSING), theirs.get(part, MISSING), part)
    one, other = (stated_by_command(config.get('recipe')) for config in (ours, theirs))
    yield from _differences(one, other, 'recipe')


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
