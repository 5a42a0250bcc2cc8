"""What a config builds, and whether the classes that it names by `type` are there."""

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from evaluation.utils.errors import UserError, did_you_mean

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Parts of a config that something is built from; the rest are names that it uses itself.
BUILT = (
    'model',
    *LOADERS,
    'val_evaluator',
    'test_evaluator',
    'train_cfg',
    'val_cfg',
    'test_cfg',
    'optim_wrapper',
    'param_scheduler',
    'default_hooks',
    'custom_hooks',
    'visualizer',
    'log_processor',
    'randomness',
    'env_cfg',
    'auto_scale_lr',
)
# Places that are built through a registry; elsewhere a `type` may be a word of the class around it.
BY_REGISTRY = re.compile(
    r'model(\.(backbone|neck|data_preprocessor|[a-z_]*head))*'
    r'|[a-z]+_dataloader\.(dataset(\.pipeline\.\d+)?|sampler|batch_sampler)'
    r'|(val|test)_evaluator(\.\d+)?|optim_wrapper(\.optimizer)?|param_scheduler\.\d+'
    r'|(default|custom)_hooks\.\w+|visualizer(\.vis_backends\.\d+)?'
)
# Of these the class around them, or mmengine, has one.
TYPE_BY_DEFAULT = ('head', 'optim_wrapper')
# Lists of what is built through a registry, each entry from a dict.
LISTS = re.compile(
    r'custom_hooks|param_scheduler|visualizer\.vis_backends|\w+_dataloader\.dataset\.pipeline'
)


def check_types(cfg: Config) -> None:
    """Check that what will be built through a registry is in it.

    Raises:
        UserError: a `type` is missing or unknown, and then the message has the nearest; or a list has
            an entry that is no dict.
    """
    check_lists(cfg)
    for settings in built_settings(cfg):
        if not BY_REGISTRY.fullmatch(settings.place):
            continue
        wanted = settings.content.get('type')
        if wanted is None and not settings.place.endswith(TYPE_BY_DEFAULT):
            near = _nearest_beside(cfg, settings.place)
            raise UserError(f'{settings.place} has no type, so nothing can be built from it{near}')
        if wanted is not None and not registered(wanted, cfg.default_scope):
            near = did_you_mean(str(wanted), registered_names(cfg.default_scope))
            raise UserError(f'{settings.place}.type={wanted!r} is not known{near}')


def check_lists(cfg: Config) -> None:
    """Check that lists of what is built through a registry have dicts for it.

    Raises:
        UserError: one has something else, such as the bare name of a hook, or is no list.
    """
    holders = [('', cfg), *((settings.place, settings.content) for settings in built_settings(cfg))]
    for place, holder in holders:
        for name, entries in holder.items():
            whole = f'{place}.{name}' if place else name
            if LISTS.fullmatch(whole) and entries is not None:
                _check_list(whole, entries)


def _check_list(place: str, entries: object) -> None:
    if place == 'param_scheduler' and isinstance(entries, dict):
        return  # mmengine takes a single one, and several by name, without a list.
    if isinstance(entries, (dict, str, int, float)):
        raise UserError(f"{place}={entries!r}: give a list, such as [{{'type': 'NAME'}}]")
    for index, entry in enumerate(entries):
        # What else it may be is an object that a config in Python has built by itself.
        if entry is None or isinstance(entry, (str, int, float, list, tuple)):
            raise UserError(f"{place}.{index}={entry!r}: give settings, such as {{'type': 'NAME'}}")


def _nearest_beside(cfg: Config, place: str) -> str:
    holder, _, name = place.rpartition('.')
    beside = [str(other) for other in setting(cfg, holder) or () if other != name]
    return did_you_mean(name, beside)


def setting(cfg: Config, place: str, default: object = None) -> object:
    """What stands at a place such as `model.backbone`; `default` where the config has no such place."""
    here = cfg
    for name in place.split('.') if place else ():
        if isinstance(here, (list, tuple)) and name.isdigit() and int(name) < len(here):
            here = here[int(name)]
        elif isinstance(here, (dict, Config)) and name in here:
            here = here[name]
        else:
            return default
    return here


@dataclass(frozen=True)
class Settings:
    """A dict in a config.

    Attributes:
        place: where it stands, such as `model.backbone`.
        content: the dict.
        types: its `type` and those of the dicts around it.
    """

    place: str
    content: dict
    types: tuple[str | Callable, ...]


def built_settings(cfg: Config) -> Iterator[Settings]:
    """Every dict within what a config builds."""
    for place in BUILT:
        yield from _all_settings(cfg.get(place), place, ())


def _all_settings(value: object, place: str, types: tuple) -> Iterator[Settings]:
    """Every dict within `value`."""
    if isinstance(value, dict):
        types = (*types, value['type']) if 'type' in value else types
        yield Settings(place, value, types)
        for name, entry in value.items():
            yield from _all_settings(entry, f'{place}.{name}', types)
    elif isinstance(value, (list, tuple)):
        for index, entry in enumerate(value):
            yield from _all_settings(entry, f'{place}.{index}', types)


def registered(wanted: str | Callable, scope: str) -> list[tuple[str, Callable]]:
    """All that is registered under a name: a sampler of boxes may be called like one of images.

    Returns:
        Names of registries, and what each has; a class itself is in none.
    """
    if not isinstance(wanted, str):
        return [('', wanted)] if callable(wanted) else []
    found = []
    for registry in _registries(scope):
        try:
            built = registry.get(wanted)
        except RuntimeError:  # what mmengine raises for a name that is not there
            continue
        if callable(built):
            found.append((registry.name, built))
    return found


@functools.cache
def _registries(scope: str) -> list[Registry]:
    """Those of a library, which look in mmengine's too."""
    try:
        module = importlib.import_module(f'{scope}.registry')
    except ImportError:
        module = mmengine.registry
    return [value for value in vars(module).values() if isinstance(value, Registry)]


def registered_names(scope: str) -> set[str]:
    """Names of all classes and functions that a library and mmengine have registered so far."""
    registries = list(_registries(scope))
    registries += [registry.parent for registry in registries if registry.parent]
    return {name for registry in registries for name in registry.module_dict}
