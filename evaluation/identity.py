"""Digest of a config: equal for runs of the same experiment, wherever their files lie."""

import hashlib
import json
import re
from typing import Any

from mmengine.config import Config

# How and where a process runs, which no figure depends on; the seed and the starting weights have fields
# of their own in `result.json`.
ELSEWHERE = (
    'config_sha256',
    'data_root',
    'work_dir',
    'launcher',
    'env_cfg',
    'log_level',
    'log_processor',
    'visualizer',
    'vis_backends',
    'randomness',
    'resume',
    'checkpoint_key',
)
LOADING = re.compile(
    r'(train|val|test)_dataloader\.(num_workers|persistent_workers|prefetch_factor|pin_memory)'
)


def config_sha256(cfg: Config) -> str:
    """SHA-256 of all settings of a config that an experiment consists of.

    To be taken of a config as it was read and overridden, before a command adds its own settings. Text,
    comments and order of the file do not matter, nor the place of the data.
    """
    settings = _without_place(cfg.to_dict(), str(cfg.get('data_root') or ''))
    kept = {name: value for name, value in settings.items() if name not in ELSEWHERE}
    if settings.get('resume') and settings.get('load_from'):
        # It says where to go on, as `--resume CHECKPOINT` does, which is in no digest.
        kept['load_from'] = None
    for name, value in kept.items():
        if isinstance(value, dict):
            kept[name] = {k: v for k, v in value.items() if not LOADING.fullmatch(f'{name}.{k}')}
    text = json.dumps(kept, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_place(value: Any, root: str) -> Any:
    """The same settings with `data_root` for the data root itself."""
    if isinstance(value, dict):
        return {str(k): _without_place(v, root) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_place(v, root) for v in value]
    folder = root.rstrip('/')
    if folder and value in (root, folder):
        return 'data_root'
    if folder and isinstance(value, str) and value.startswith(f'{folder}/'):
        return f'data_root{value[len(folder) :]}'
    return value
