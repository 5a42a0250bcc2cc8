"""Replace the backbone of a config: the option `--backbone NAME`.

A name is one of

- `dcn_tiny`: a scale of a page in `configs/_base_/backbones`;
- `timm:NAME`: a network of timm, with or without the tag of its weights;
- `package.module:Class`: any class derived from `torch.nn.Module`, which needs no registration.

Each may be followed by options: `package.module:Class(depth=3, width=64)`.
"""

import ast
import functools
import importlib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import nn

from evaluation.config.config_files import check_imports, read_config
from evaluation.config.config_text import TRUSTED, UNREADABLE
from evaluation.config.model_channels import complete_model
from evaluation.config.overrides import is_plain, merge_options
from evaluation.config.recipe import recipe_of
from evaluation.config.settings import READ_ANYWHERE, keywords_of, registered
from evaluation.tasks import TASKS
from evaluation.tasks.classification import CLASSIFICATION
from evaluation.utils.errors import UserError, did_you_mean

PAGES = Path(__file__).resolve().parents[2] / 'configs/_base_/backbones'
TIMM = 'timm:'
FORMS = 'a scale such as dcn_tiny, timm:NAME, or package.module:Class'


@dataclass(frozen=True)
class NamedBackbone:
    """A backbone that a command line names.

    Attributes:
        settings: the config of `model.backbone`.
        contestant: `name` and, where known, `family`, `mixer` and `scale`, as leaves declare them.
    """

    settings: dict
    contestant: dict


def open_config(file: str, backbone: str | None, options: dict) -> tuple[Config, list[str]]:
    """Read a config, replace its backbone, override settings, and fill in channels.

    Args:
        file: path of the config.
        backbone: value of `--backbone`; None to keep the backbone of the config.
        options: overrides, by dotted keys; they apply after `backbone`.

    Returns:
        The config, and warnings about overrides that nothing is known to read.

    Raises:
        UserError: the config, the name or an override is invalid.
    """
    _make_current_folder_importable()
    cfg = read_config(file)
    if backbone is not None:
        cfg = _replace_backbone(cfg, backbone)
    warnings = merge_options(cfg, options)
    complete_model(cfg, is_replaced=backbone is not None, options=options)
    return cfg, warnings


def use_backbone(cfg: Config, name: str) -> Config:
    """Return a config with a different backbone, named after its contestant.

    Neck and heads get the channels of the backbone, and the preprocessor its normalization. Everything
    else stays as in the recipe.

    Args:
        cfg: a leaf, or a recipe without a backbone; not changed.
        name: name of the backbone, see the module.

    Raises:
        UserError: the name is invalid, or neck and heads cannot take the maps of the backbone.
    """
    replaced = _replace_backbone(cfg, name)
    complete_model(replaced, is_replaced=True)
    return replaced


def find_backbone(name: str, task: str) -> NamedBackbone:
    """Return the settings and the contestant that a name stands for.

    Args:
        name: name of the backbone, see the module.
        task: key of the task, such as `instance_segmentation`. Classification uses the classifier of
            the backbone, without the options that only dense models have.

    Raises:
        UserError: the name is invalid, or the backbone has no classifier; the message says why.
    """
    base, options = _split_options(name)
    if base.startswith(TIMM):
        found = _of_timm(base.removeprefix(TIMM))
    elif ':' in base:
        found = _of_class(base)
    else:
        found = _of_page(base, task)
    settings = found.settings
    if task == CLASSIFICATION.key and not _is_class_path(base):
        settings = _as_classifier(base, settings)
    given = ', '.join(f'{key}={value!r}' for key, value in options.items())
    title = found.contestant['name'] + (f'({given})' if given else '')
    return NamedBackbone({**settings, **options}, {**found.contestant, 'name': title})


def named_after(cfg: Config, contestant: str) -> str:
    """Return the file name, without suffix, of a config whose backbone is replaced.

    The name of the leaf's own contestant is replaced: `mask_rcnn_swin_micro` with `dcn_tiny` is
    `mask_rcnn_dcn_tiny`. A page has no contestant: `mask_rcnn_coco_1x_dcn_tiny`.

    Args:
        cfg: config before its backbone is replaced.
        contestant: name of the contestant.
    """
    stem = Path(cfg.filename).stem
    own = (cfg.get('contestant') or {}).get('name')
    if own and stem.endswith(f'_{file_name(own)}'):
        stem = stem.removesuffix(f'_{file_name(own)}')
    return f'{stem}_{file_name(contestant)}'


def file_name(contestant: str) -> str:
    """Return the name of a contestant with only letters, digits, `.`, `_` and `-`."""
    return re.sub(r'_*[^A-Za-z0-9._-]+_*', '_', contestant).strip('_')


def task_of_config(cfg: Config) -> str:
    """Return the key of the task of a config, from its recipe or its heads.

    Raises:
        UserError: the config has no model, or neither states the task.
    """
    model = cfg.get('model')
    if model is None:
        raise UserError(
            f'--backbone: config {cfg.filename} has no model; give a leaf in configs/, or a recipe in '
            'configs/_base_'
        )
    if recipe := recipe_of(cfg):
        return recipe.task
    found = next(
        (task.key for task in TASKS.values() if any(head in model for head in task.heads)), None
    )
    if found is None:
        raise UserError(
            f'--backbone: config {cfg.filename} declares no recipe, so its task is unknown; write '
            "recipe = dict(name='...', task='...', dataset='...')"
        )
    return found


def _replace_backbone(cfg: Config, name: str) -> Config:
    """Return a config with a different backbone, before its model is completed."""
    _make_current_folder_importable()
    task = task_of_config(cfg)
    named = find_backbone(name, task)
    content = cfg.to_dict()
    model, recipe = content['model'], _model_of_recipe(cfg)
    # Settings that a recipe gives to every backbone. The number of classes belongs to the data.
    shared = dict(recipe.get('backbone') or {})
    if task == CLASSIFICATION.key:
        classes = (model.get('backbone') or {}).get('num_classes')
        shared |= {} if classes is None else {'num_classes': classes}
    known = keywords_of(named.settings, 'model.backbone', cfg.get('default_scope'))
    accepted = {k: v for k, v in shared.items() if known and k in known.names}
    model['backbone'] = {**accepted, **named.settings}
    _restore_normalization(model, recipe)
    content['contestant'] = named.contestant
    file = Path(cfg.filename).with_name(f'{named_after(cfg, named.contestant["name"])}.py')
    # Without a text, mmengine would look for the file, which need not exist.
    return Config(content, cfg_text=cfg.text or cfg.pretty_text, filename=file)


def _model_of_recipe(cfg: Config) -> dict:
    """Return the `model` of the recipe that a config imports, which leaves complete; empty if none.

    A dumped config imports nothing.
    """
    file = Path(os.path.normpath(cfg.filename))
    if not file.is_file():
        return {}
    for page in check_imports(file):
        content = read_config(str(page))
        backbone = (content.get('model') or {}).get('backbone') or {}
        if 'recipe' in content and 'model' in content and 'type' not in backbone:
            return content.to_dict()['model']
    return {}


def _restore_normalization(model: dict, recipe: Mapping) -> None:
    """Undo the normalization that a leaf sets for the weights of its own backbone."""
    stated = recipe.get('data_preprocessor') or {}
    kept = {key: stated[key] for key in ('mean', 'std', 'bgr_to_rgb') if key in stated}
    if kept and isinstance(model.get('data_preprocessor'), dict):
        model['data_preprocessor'] = {**model['data_preprocessor'], **kept}


# Names


def _split_options(name: str) -> tuple[str, dict]:
    """Split `Class(depth=3)` into the name and its options.

    Raises:
        UserError: the options are not `KEY=VALUE` with Python literals.
    """
    base, opening, rest = name.partition('(')
    if not opening:
        return name, {}
    advice = 'give Python literals in parentheses, such as (depth=3, width=64)'
    try:
        call = ast.parse(f'f({rest}', mode='eval').body
        is_one_call = isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        keys = [keyword.arg for keyword in call.keywords] if is_one_call else []
        if not is_one_call or call.args or None in keys or len({*keys}) < len(keys):
            raise UserError(f'--backbone {name}: its options are not KEY=VALUE, each key once; {advice}')
        options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except UNREADABLE as error:
        raise UserError(f'--backbone {name}: its options cannot be read; {advice}') from error
    for key, value in options.items():
        if key in READ_ANYWHERE:
            raise UserError(f'--backbone {name}: {key} is not an option; name a different class instead')
        if not is_plain(value):
            raise UserError(
                f'--backbone {name}: {key} is {value!r}, which configs do not hold; {advice}'
            )
    return base, options


def _of_timm(model: str) -> NamedBackbone:
    if not model:
        raise UserError('--backbone timm: names no network; give timm:NAME, such as timm:resnet50')
    return NamedBackbone(
        {'type': 'TimmBackbone', 'model_name': model}, {'name': model, 'family': 'timm'}
    )


@dataclass(frozen=True)
class _Scale:
    """A scale of a page.

    Attributes:
        settings: its settings.
        facts: contestant, without its name.
        drop_path_rates: rates by task that replace its own.
    """

    settings: dict
    facts: dict
    drop_path_rates: dict[str, float]


@functools.cache
def _scales() -> dict[str, _Scale]:
    """Return the scales of all pages by name: top-level dicts with a `type`.

    A page may have `drop_path_rates`, by task and scale, for tasks that need a rate other than the
    scale's own, and `contestants`, by name, with facts that the name does not tell.
    """
    found = {}
    for page in sorted(PAGES.glob('*.py')):
        content = read_config(str(page)).to_dict()
        rates, declared = content.get('drop_path_rates', {}), content.get('contestants', {})
        for name, settings in content.items():
            if isinstance(settings, dict) and 'type' in settings:
                _, start, scale = name.partition(f'{page.stem}_')
                facts = {'scale': scale} if start else {}
                facts |= declared.get(name, {})
                of_scale = {task: by_scale.get(facts.get('scale')) for task, by_scale in rates.items()}
                found[name] = _Scale(settings, facts, of_scale)
    return found


def scale_names() -> list[str]:
    """Return the names of all scales in `configs/_base_/backbones`."""
    return list(_scales())


def _of_page(name: str, task: str) -> NamedBackbone:
    """Return a scale of a page, with the drop path rate of the task.

    Raises:
        UserError: there is no such scale.
    """
    scale = _scales().get(name)
    if scale is None:
        near = did_you_mean(name, _scales())
        raise UserError(f'--backbone {name}: there is no such scale{near or f"; give {FORMS}"}')
    rate = scale.drop_path_rates.get(task)
    changed = {} if rate is None else {'drop_path_rate': rate}
    return NamedBackbone({**scale.settings, **changed}, {'name': name, **scale.facts})


def _as_classifier(name: str, settings: dict) -> dict:
    """Return the settings of the classifier of a backbone, which its class names.

    Raises:
        UserError: it has none.
    """
    network = next((built for _, built in registered(settings['type'], 'mmengine')), None)
    classifier = getattr(network, 'classifier', None)
    if classifier is None:
        raise UserError(
            f'--backbone {name}: {settings["type"]} has no classifier for ImageNet; give timm:NAME, a '
            'unified scale, or a class that returns logits'
        )
    known = keywords_of({'type': classifier}, 'model.backbone', 'mmengine')
    kept = {key: value for key, value in settings.items() if known is None or key in known.names}
    return {**kept, 'type': classifier}


# Classes by path


def _is_class_path(base: str) -> bool:
    return ':' in base and not base.startswith(TIMM)


def _of_class(base: str) -> NamedBackbone:
    """Import a class.

    Raises:
        UserError: there is no such module or class, or it is not a network.
    """
    path, _, name = base.partition(':')
    if not all(part.isidentifier() for part in [*path.split('.'), name]):
        raise UserError(f'--backbone {base}: give {FORMS}')
    module = _import(base, path)
    if not hasattr(module, name):
        networks = [key for key, value in vars(module).items() if _is_network(value)]
        raise UserError(f'--backbone {base}: {path} has no {name}{did_you_mean(name, networks)}')
    network = getattr(module, name)
    if not _is_network(network):
        what = 'derived from torch.nn.Module' if isinstance(network, type) else 'a class'
        raise UserError(
            f'--backbone {base}: {name} is not {what}; give a class derived from torch.nn.Module'
        )
    family = getattr(network, 'family', None) or network.__module__.partition('.')[0]
    return NamedBackbone({'type': _type_of(network, path, name)}, {'name': name, 'family': family})


def _import(base: str, path: str) -> Any:
    """Import a module.

    Raises:
        UserError: it does not exist. Errors inside a module keep their traceback.
    """
    _make_current_folder_importable()
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{path}.'.startswith(f'{error.name}.'):
            raise
        beside = [file.stem for file in Path.cwd().glob('*.py')]
        raise UserError(
            f'--backbone {base}: there is no module {error.name} in this folder or among the installed '
            f'packages{did_you_mean(error.name, beside)}'
        ) from error


def _type_of(network: type[nn.Module], path: str, name: str) -> str:
    """Return the `type` for configs: the registered name of a library's class, else its path."""
    library = network.__module__.partition('.')[0]
    short = f'{library}.{network.__name__}' if library in ('mmdet', 'mmseg') else network.__name__
    if library in TRUSTED and any(built is network for _, built in registered(short, library)):
        return short
    return f'{path}.{name}'


def _is_network(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def _make_current_folder_importable() -> None:
    # At the end: a file of the user never replaces a module of the suite or its libraries.
    folder = os.getcwd()
    if folder not in sys.path and '' not in sys.path:
        sys.path.append(folder)
