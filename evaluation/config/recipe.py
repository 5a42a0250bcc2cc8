"""Recipe, recipe variant and contestant of a config.

    recipe = dict(name='mask_rcnn_coco_1x', task='instance_segmentation', ...)  # in a page
    contestant = dict(name='dcn_tiny', scale='tiny')  # in a leaf

A recipe has two variants: fair to all mixers, or as released.
"""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path

from mmengine.config import Config
from torch import nn

from evaluation.config.digests import LATER_EXEMPTIONS
from evaluation.tasks import FAIR, PROTOCOLS, RELEASED, TASKS, Contestant, Recipe, find_task
from evaluation.utils.errors import UserError, did_you_mean

# Defined in `backbones`, which is not imported just for a name.
RELEASED_CONSTRUCTOR = 'ReleasedDecayConstructor'
# Parameters without decay in fair recipes besides norms, as keys of `paramwise_cfg.custom_keys`.
POSITIONS = ('relative_position_bias_table', 'height_rel', 'width_rel', 'pos_embed')
STARTS = ('pretrained', 'scratch')
MOST = 2**31 - 1
# Facts of a recipe, by kind.
_NEEDED = ('name', 'task', 'dataset')
_TEXTS = ('name', 'task', 'title', 'dataset', 'start', 'pretraining')
_FLAGS = ('any_length', 'multi_scale')
_COUNTS = ('images', 'epochs', 'iterations', 'batch_size')


def recipe_of(cfg: Config) -> Recipe | None:
    """Return the recipe that a config declares; None if it declares none.

    Older configs, whose pages did not declare recipes, name a task in `default_hooks.result`.

    Raises:
        UserError: the recipe is incomplete or has an unknown fact.
    """
    declared = cfg.get('recipe')
    if declared is None:
        hook = (cfg.get('default_hooks') or {}).get('result') or {}
        task = find_task(hook.get('task'))
        if task is None or task.earlier is None:
            return None
        return task.earlier.recipe_of((cfg.get('train_cfg') or {}).get('max_epochs'))
    place = f'config {cfg.filename}: recipe'
    _check_keys(place, declared, [field.name for field in fields(Recipe)])
    if missing := next((name for name in _NEEDED if declared.get(name) is None), None):
        raise UserError(f'{place} has no {missing}; the pages in configs/_base_ are examples')
    _check_values(place, declared)
    stated = {name: value for name, value in declared.items() if value is not None}
    facts = {'title': declared['name'], **stated}
    facts['task'] = find_task(declared['task']).key
    if facts.get('flops_size'):
        facts['flops_size'] = tuple(facts['flops_size'])
    return Recipe(**facts)


def required_recipe(cfg: Config) -> Recipe:
    """Return the recipe of a config whose results will be written.

    Raises:
        UserError: the config declares no recipe or an invalid one.
    """
    recipe = recipe_of(cfg)
    if recipe is None:
        raise UserError(
            f'config {cfg.filename} declares no recipe, which results need; import a page of '
            "configs/_base_, or write recipe = dict(name='...', task='...', dataset='...') with "
            f'one of the tasks {", ".join(TASKS)}'
        )
    return recipe


def check_competition(cfg: Config) -> None:
    """Check the recipe and the contestant of a config.

    Raises:
        UserError: one of them is invalid, or the recipe is missing although results will be written.
    """
    contestant_name(cfg)
    hook = (cfg.get('default_hooks') or {}).get('result') or {}
    recipe = required_recipe(cfg) if hook.get('type') == 'ResultHook' else recipe_of(cfg)
    if hook.get('dataset') is not None and not _is_text(hook['dataset']):
        raise UserError(f'default_hooks.result.dataset is {hook["dataset"]!r}; give one line of text')
    _check_task(cfg, recipe)
    if recipe and hook.get('task') and find_task(hook['task']) is not TASKS[recipe.task]:
        raise UserError(
            f'default_hooks.result.task={hook["task"]!r} and recipe.task={recipe.task!r} are different; '
            'give only recipe.task'
        )


def contestant_name(cfg: Config) -> str:
    """Return the name of the contestant; the name of the config if it declares none.

    Raises:
        UserError: `contestant` is invalid.
    """
    declared = declared_contestant(cfg)
    place = f'config {cfg.filename}: contestant'
    _check_keys(place, declared, [field.name for field in fields(Contestant)])
    for key, value in declared.items():
        if value is not None and not _is_text(value):
            raise UserError(f'{place}.{key} is {value!r}; give one line of text')
    return declared.get('name') or Path(cfg.filename).stem


def declared_contestant(cfg: Config) -> Mapping:
    """Return the contestant that a config declares; empty if it declares none.

    Dumped configs from before leaves declared contestants state it in the name of the config.
    """
    declared = cfg.get('contestant')
    task = find_task(((cfg.get('default_hooks') or {}).get('result') or {}).get('task'))
    if declared is not None or cfg.get('recipe') is not None or task is None or not cfg.filename:
        return declared or {}
    name = Path(cfg.filename).stem.removeprefix(f'{task.earlier.key}_').removesuffix(f'_{RELEASED}')
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    mixer = (backbone.get('mixer') or {}).get('type')
    scale = name.removeprefix(f'{mixer}_')
    return {'name': name, 'scale': None if scale == name else scale}


def contestant_of(cfg: Config, backbone: nn.Module) -> Contestant:
    """Return the contestant: declared facts first, then those of the backbone.

    Args:
        cfg: a config.
        backbone: backbone built from the config.
    """
    family = getattr(backbone, 'family', None) or type(backbone).__module__.partition('.')[0]
    found = Contestant(contestant_name(cfg), family, getattr(backbone, 'mixer_name', None))
    return replace(found, **{k: v for k, v in declared_contestant(cfg).items() if v is not None})


def variant_of(optim_wrapper: Mapping) -> str | None:
    """Return the recipe variant, from the weight decay of a config; None for a custom rule.

    The variants differ only in weight decay, see docs/training.md.

    Args:
        optim_wrapper: `optim_wrapper` of the config.
    """
    constructor = optim_wrapper.get('constructor')
    if getattr(constructor, '__name__', constructor) == RELEASED_CONSTRUCTOR:
        return RELEASED
    rules = optim_wrapper.get('paramwise_cfg') or {}
    keys = rules.get('custom_keys') or {}
    # Configs of earlier versions of the suite lack the names of mixers that were added later.
    names = [*POSITIONS, *(name for name in LATER_EXEMPTIONS if name in keys)]
    exempt = [(keys.get(name) or {}).get('decay_mult') == 0 for name in names]
    return FAIR if rules.get('norm_decay_mult') == 0 and all(exempt) else None


def _check_task(cfg: Config, recipe: Recipe | None) -> None:
    """Check that the heads of a model are for the task of the recipe.

    Raises:
        UserError: they are for a different task.
    """
    parts = cfg.get('model') or {}
    tasks = [task.key for task in TASKS.values() if any(head in parts for head in task.heads)]
    if recipe and tasks and recipe.task not in tasks:
        raise UserError(
            f'config {cfg.filename}: recipe.task is {recipe.task!r}, but the model is for {tasks[0]}; '
            'give the recipe of the model'
        )


def _is_text(value: object) -> bool:
    """Return whether a value is text that tables can print on one line."""
    return (
        isinstance(value, str)
        and bool(value)
        and not any(unicodedata.category(letter) in ('Cc', 'Cs') for letter in value)
    )


def _check_keys(place: str, declared: object, known: Collection[str]) -> None:
    """Check that a declaration is a dict of known facts.

    Raises:
        UserError: it is not a dict, or a fact is unknown.
    """
    if not isinstance(declared, Mapping):
        raise UserError(
            f'{place} is {declared!r}; write {place.rpartition(" ")[2]} = dict(name=..., ...)'
        )
    for key in declared:
        if key not in known:
            near = did_you_mean(key, known)
            raise UserError(f'{place} has no {key}{near or "; it has " + ", ".join(known)}')


def _check_values(place: str, declared: Mapping) -> None:
    """Check the value of every fact of a recipe.

    Raises:
        UserError: a value is invalid.
    """
    stated = {name: value for name, value in declared.items() if value is not None}
    for name in _TEXTS:
        if name in stated and not _is_text(stated[name]):
            raise UserError(f'{place}.{name} is {stated[name]!r}; give one line of text')
    for name in _COUNTS:
        if name in stated and (type(stated[name]) is not int or not 1 <= stated[name] <= MOST):
            raise UserError(f'{place}.{name} is {stated[name]!r}; give a whole number from 1 to {MOST}')
    if find_task(stated['task']) is None:
        near = did_you_mean(stated['task'], TASKS)
        raise UserError(
            f'{place}.task is {stated["task"]!r}{near or "; the tasks are " + ", ".join(TASKS)}'
        )
    if stated.get('start', STARTS[0]) not in STARTS:
        raise UserError(f'{place}.start is {stated["start"]!r}; give {" or ".join(map(repr, STARTS))}')
    if 'epochs' in stated and 'iterations' in stated:
        raise UserError(f'{place} has both epochs and iterations; give only one of them')
    for name in _FLAGS:
        if type(stated.get(name, False)) is not bool:
            raise UserError(f'{place}.{name} is {stated[name]!r}; give True or False')
    check_stated_by_command(place, stated)
    size = stated.get('flops_size', (1, 1))
    is_pair = isinstance(size, (list, tuple)) and len(size) == 2
    if not is_pair or any(type(n) is not int or n < 1 for n in size):
        raise UserError(f'{place}.flops_size is {size!r}; give (height, width) in pixels')


def check_stated_by_command(place: str, stated: Mapping) -> None:
    """Check the facts of a recipe that the options of commands state.

    Args:
        place: where they are stated, for messages.
        stated: facts by name.

    Raises:
        UserError: a value is invalid, or a fraction has no seed.
    """
    protocol, fraction = stated.get('protocol'), stated.get('fraction')
    if protocol not in (None, *PROTOCOLS):
        raise UserError(f'{place}.protocol is {protocol!r}; give {" or ".join(map(repr, PROTOCOLS))}')
    if fraction is not None and (type(fraction) is not float or not 0 < fraction < 1):
        raise UserError(f'{place}.fraction is {fraction!r}; give a number between 0 and 1')
    seed = stated.get('fraction_seed')
    if (seed is None) != (fraction is None) or (seed is not None and not _is_seed(seed)):
        raise UserError(
            f'{place}.fraction_seed is {seed!r}; give a whole number from 0 to {MOST} beside a fraction'
        )


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST
