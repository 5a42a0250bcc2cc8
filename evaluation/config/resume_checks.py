"""Whether a training may go on from a checkpoint: only from one of the same experiment."""

import re
from collections.abc import Iterator

from mmengine.config import Config

from evaluation.config.schedule_length import effective_batch_size
from evaluation.config.text import read_literals
from evaluation.utils.errors import UserError, warn
from evaluation.utils.process_groups import process_count

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
