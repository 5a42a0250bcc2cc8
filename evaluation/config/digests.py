"""Digest of a config: the same for all runs of an experiment, wherever files and modules are.

`current_name` maps module names of earlier versions to current ones.
"""

import hashlib
import json
import re
from typing import Any

from mmengine.config import Config

from evaluation.tasks import find_task, stated_by_command

# Version 1 included `custom_imports`. Results from then do not store a version.
DIGEST_VERSION = 2
# Settings of the process and its machine, which do not affect figures. The seed and the starting
# weights have separate fields in `result.json`.
NOT_OF_THE_EXPERIMENT = (
    'config_sha256',
    'config_sha256_version_1',
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
    # Names of results. What a command states about the recipe is part of the digest; see `_settings`.
    'recipe',
    'contestant',
)
# Parameters of mixers since the paper that recipes do not decay, as keys of `paramwise_cfg.custom_keys`.
# Earlier configs lack them and describe the same experiments, since earlier networks have no such names.
LATER_EXEMPTIONS = (
    'rpb',
    'A_logs',
    'Ds',
    'an_bias',
    'na_bias',
    'ah_bias',
    'aw_bias',
    'ha_bias',
    'wa_bias',
)
LOADING = re.compile(
    r'(train|val|test)_dataloader\.(num_workers|persistent_workers|prefetch_factor|pin_memory)'
)
# The module that configs import today.
REGISTRATION = 'evaluation.registration'
# Imports of the recipe pages before `evaluation.registration`, by `default_scope`. They are part of
# version 1 of the digest, so do not change them.
IMPORTS_OF_VERSION_1 = {
    'mmdet': (
        'backbones',
        'evaluation.hooks.checkpoint',
        'evaluation.hooks.instance_drawing',
        'evaluation.metrics.instances',
        'evaluation.instance_tta',
        'evaluation.data.loading',
        'evaluation.data.reproducible_loading',
        'evaluation.hooks.result',
    ),
    'mmseg': (
        'backbones',
        'evaluation.hooks.checkpoint',
        'evaluation.hooks.segmentation_drawing',
        'evaluation.data.loading',
        'evaluation.data.reproducible_loading',
        'evaluation.hooks.result',
        'evaluation.data.segmentation_map',
        'evaluation.metrics.segmentation',
        'evaluation.segmentation_tta',
    ),
    'mmengine': (
        'backbones',
        'evaluation.hooks.checkpoint',
        'evaluation.classification',
        'evaluation.data.loading',
        'evaluation.data.reproducible_loading',
        'evaluation.hooks.result',
    ),
}
_EARLIEST = (
    'evaluation.checkpoint_hook',
    'evaluation.instance_metric',
    'evaluation.loading',
    'evaluation.result_hook',
    'evaluation.segmentation_map',
    'evaluation.segmentation_metric',
)
_MOVED = frozenset(_EARLIEST).union(*IMPORTS_OF_VERSION_1.values()) - {'backbones'}


def config_sha256(cfg: Config) -> str:
    """Return the SHA-256 of all settings of a config that define the experiment.

    Formatting, comments, order, the location of the data and the imported modules do not matter.

    Args:
        cfg: config with overrides, before a command adds its own settings.
    """
    return _sha256({key: value for key, value in _settings(cfg).items() if key != 'custom_imports'})


def config_sha256_version_1(cfg: Config) -> str:
    """Return the digest that earlier versions of the suite computed for the same config.

    Args:
        cfg: config, as for `config_sha256`.
    """
    settings = _settings(cfg)
    imports = settings.get('custom_imports')
    usual = IMPORTS_OF_VERSION_1.get(cfg.get('default_scope'), ())
    if isinstance(imports, dict) and isinstance(names := imports.get('imports'), list):
        names = [old for name in names for old in (usual if name == REGISTRATION else [name])]
        settings['custom_imports'] = {**imports, 'imports': names}
    return _sha256(settings)


def add_digests(cfg: Config) -> None:
    """Store both digests in the config, for checkpoints and results."""
    digests = config_sha256(cfg), config_sha256_version_1(cfg)
    cfg.config_sha256, cfg.config_sha256_version_1 = digests


def _settings(cfg: Config) -> dict[str, Any]:
    settings = _without_place(cfg.to_dict(), str(cfg.get('data_root') or ''))
    kept = {name: value for name, value in settings.items() if name not in NOT_OF_THE_EXPERIMENT}
    if settings.get('resume') and settings.get('load_from'):
        # This is `--resume CHECKPOINT`, which digests exclude.
        kept['load_from'] = None
    _name_results(kept, settings.get('recipe'))
    stated = stated_by_command(settings.get('recipe'))
    kept |= {f'recipe.{fact}': value for fact, value in stated.items()}
    _drop_later_exemptions(kept.get('optim_wrapper'))
    for name, value in kept.items():
        if isinstance(value, dict):
            kept[name] = {k: v for k, v in value.items() if not LOADING.fullmatch(f'{name}.{k}')}
    return kept


def _name_results(settings: dict[str, Any], recipe: Any) -> None:
    """Put task and data set where configs without recipes had them, so that digests stay the same."""
    hooks = settings.get('default_hooks')
    hook = hooks.get('result') if isinstance(hooks, dict) else None
    if isinstance(recipe, dict) and isinstance(hook, dict) and 'task' not in hook:
        task = find_task(recipe.get('task'))
        key = task.earlier.key if task and task.earlier else recipe.get('task')
        named = {'task': key, 'dataset': recipe.get('dataset'), **hook}
        settings['default_hooks'] = {**hooks, 'result': named}


def _drop_later_exemptions(optim_wrapper: Any) -> None:
    """Remove `LATER_EXEMPTIONS` from `custom_keys`, so that digests stay the same."""
    rules = optim_wrapper.get('paramwise_cfg') if isinstance(optim_wrapper, dict) else None
    keys = rules.get('custom_keys') if isinstance(rules, dict) else None
    if isinstance(keys, dict):
        for name in LATER_EXEMPTIONS:
            if keys.get(name) == {'decay_mult': 0.0}:
                del keys[name]


def _sha256(settings: dict[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_place(value: Any, root: str) -> Any:
    """Return the settings with the data root replaced by `data_root`."""
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


def current_name(module: str) -> str:
    """Return the current module that registers what `module` did when a config was written."""
    return REGISTRATION if module in _MOVED else module
