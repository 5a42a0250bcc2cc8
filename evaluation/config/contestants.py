"""Replace the backbone of a config: the option `--backbone NAME`.

A name is one of

- `dcn_tiny`: a scale of a page in `configs/_base_/backbones`;
- `timm:NAME`: a network of timm, with or without the tag of its weights;
- `package.module:Class`: any class derived from `torch.nn.Module`, which needs no registration.

Each may be followed by options: `package.module:Class(depth=3, width=64)`.
"""

import ast
import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from evaluation.config.backbone_classes import find_class, make_current_folder_importable
from evaluation.config.config_files import check_imports, read_config
from evaluation.config.config_text import UNREADABLE
from evaluation.config.model_channels import complete_model
from evaluation.config.overrides import is_plain, merge_options
from evaluation.config.protocols import NO_PROTOCOL, ProtocolOptions, use_protocol
from evaluation.config.recipe import recipe_of
from evaluation.config.settings import READ_ANYWHERE, keywords_of, registered
from evaluation.tasks import TASKS
from evaluation.tasks.classification import CLASSIFICATION
from evaluation.utils.errors import UserError, did_you_mean

PAGES = Path(__file__).resolve().parents[2] / 'configs/_base_/backbones'
TIMM = 'timm:'
# Key of the digest of a class's source code in a config.
SOURCE = 'backbone_source_sha256'
FORMS = 'a scale such as dcn_tiny, timm:NAME, or package.module:Class'


@dataclass(frozen=True)
class NamedBackbone:
    """A backbone that a command line names.

    Attributes:
        settings: the config of `model.backbone`.
        contestant: `name` and, where known, `family`, `mixer` and `scale`, as leaves declare them.
        source_sha256: digest of the source code of a class; None if it is in an installed package.
    """

    settings: dict
    contestant: dict
    source_sha256: str | None = None


def open_config(
    file: str, backbone: str | None, options: dict, protocol: ProtocolOptions = NO_PROTOCOL
) -> tuple[Config, list[str]]:
    """Read a config, replace its backbone, apply a protocol, override settings, and fill in channels.

    Args:
        file: path of the config.
        backbone: value of `--backbone`; None to keep the backbone of the config.
        options: overrides, by dotted keys; they apply after `backbone` and `protocol`.
        protocol: protocol and fraction to state.

    Returns:
        The config, and warnings about overrides that nothing is known to read.

    Raises:
        UserError: the config, the name or an override is invalid, or the protocol does not fit.
    """
    make_current_folder_importable()
    cfg = read_config(file)
    if backbone is not None:
        _check_given_once(backbone, options)
        cfg = _replace_backbone(cfg, backbone)
    cfg = use_protocol(cfg, protocol)
    warnings = merge_options(cfg, options)
    complete_model(cfg, is_replaced=backbone is not None, options=options)
    return cfg, warnings


def _check_given_once(backbone: str, options: Mapping) -> None:
    """Check that no option of a backbone is given both in its name and by `--cfg-options`.

    Raises:
        UserError: one is, so the name would state a value that is not used.
    """
    for key in _split_options(backbone)[1]:
        if f'model.backbone.{key}' in options:
            raise UserError(
                f'--backbone {backbone} and --cfg-options model.backbone.{key} both set {key}; give one'
            )


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
    contestant = {**found.contestant, 'name': title}
    return NamedBackbone({**settings, **options}, contestant, found.source_sha256)


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
    make_current_folder_importable()
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
    content.pop(SOURCE, None)
    if named.source_sha256:
        # Part of the experiment: other source code is another network.
        content[SOURCE] = named.source_sha256
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
    base = base.strip()
    if not opening:
        return base, {}
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


def _is_class_path(base: str) -> bool:
    return ':' in base and not base.startswith(TIMM)


def _of_class(base: str) -> NamedBackbone:
    """Return the class of a path.

    Raises:
        UserError: there is no such module or class, or it is not a network.
    """
    path, _, name = base.partition(':')
    if not all(part.isidentifier() for part in [*path.split('.'), name]):
        raise UserError(f'--backbone {base}: give {FORMS}')
    found = find_class(path, name)
    return NamedBackbone(
        {'type': found.type}, {'name': found.type, 'family': found.family}, found.source_sha256
    )
