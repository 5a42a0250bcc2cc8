"""Check settings that objects are built from: `type` exists, and its class accepts the keys.

Accepted keys come from signatures, from a class up to the first base class without `**kwargs`.
"""

import difflib
import enum
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

import mmengine.registry
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import LogProcessor, Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from evaluation.utils.errors import UserError, did_you_mean

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Parts of a config that objects are built from. Other names are only used within the config.
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
# Places that are built through a registry. Elsewhere the enclosing class defines what `type` means.
BY_REGISTRY = re.compile(
    r'model(\.(backbone|neck|data_preprocessor|[a-z_]*head))*'
    r'|[a-z]+_dataloader\.(dataset(\.dataset|\.datasets\.\d+)*(\.pipeline\.\d+)?|sampler|batch_sampler)'
    r'|(val|test)_evaluator(\.\d+)?|optim_wrapper(\.optimizer)?|param_scheduler\.\d+'
    r'|(default|custom)_hooks\.\w+|visualizer(\.vis_backends\.\d+)?'
)
# Places whose `type` has a default, in the enclosing class or mmengine.
TYPE_BY_DEFAULT = ('head', 'optim_wrapper')
# Lists whose entries are dicts that are built through a registry.
LISTS = re.compile(
    r'custom_hooks|param_scheduler|visualizer\.vis_backends|\w+_dataloader\.dataset\.pipeline'
)
# Read by mmengine before it passes the rest to the class.
READ_ANYWHERE = frozenset({'type', '_scope_', '_delete_'})
READ_BESIDE_SIGNATURE = {
    'hook': {'priority'},
    'parameter scheduler': {'convert_to_iter_based'},
    'optim_wrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
    'weight initializer': {'override', 'name', 'key'},  # the last one: `backbones.checkpoint`
    'model': {
        # Removed by the enclosing class: settings of norm layers, losses and upsampling.
        'requires_grad',
        'bg_cls_weight',
        'scale_factor',
        'upsample_kernel',
        'deformable_groups',  # a former name of mmcv's
    },
}
# Functions and classes that a class, or one derived from it, passes its keywords to.
HANDED_ON = {
    CheckpointHook: (Runner.save_checkpoint,),
    EMAHook: (ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage),
}
# Minimum similarity (see difflib) of a name and its misspelling.
ALL_BUT_THE_SAME = 0.85


def check_types(cfg: Config) -> None:
    """Check that every `type` to be built is in its registry.

    Raises:
        UserError: a `type` is missing or unknown (the message suggests the nearest), or an entry of a
            list is not a dict.
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
            raise UserError(f'{settings.place}.type={wanted!r} is unknown{near}')


def check_lists(cfg: Config) -> None:
    """Check that lists of settings to be built contain dicts.

    Raises:
        UserError: a list contains something else, such as the bare name of a hook, or is not a list.
    """
    holders = [('', cfg), *((settings.place, settings.content) for settings in built_settings(cfg))]
    for place, holder in holders:
        for name, entries in holder.items():
            whole = f'{place}.{name}' if place else name
            if LISTS.fullmatch(whole) and entries is not None:
                _check_list(whole, entries)


def _check_list(place: str, entries: object) -> None:
    if place == 'param_scheduler' and isinstance(entries, dict):
        return  # mmengine also accepts a single scheduler, or a dict of them.
    if isinstance(entries, (dict, str, int, float)):
        raise UserError(f"{place}={entries!r}: give a list, such as [{{'type': 'NAME'}}]")
    for index, entry in enumerate(entries):
        # Anything else is an object that the config has already built.
        if entry is None or isinstance(entry, (str, int, float, list, tuple)):
            raise UserError(f"{place}.{index}={entry!r}: give settings, such as {{'type': 'NAME'}}")


def _nearest_beside(cfg: Config, place: str) -> str:
    holder, _, name = place.rpartition('.')
    beside = [str(other) for other in setting(cfg, holder) or () if other != name]
    return did_you_mean(name, beside)


def setting(cfg: Config, place: str, default: object = None) -> object:
    """Return the value at a place such as `model.backbone`; `default` if there is no such place."""
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
class PlacedSettings:
    """A dict in a config.

    Attributes:
        place: dotted key, such as `model.backbone`.
        content: the dict.
    """

    place: str
    content: dict


def built_settings(cfg: Config) -> Iterator[PlacedSettings]:
    """Yield every dict in the parts of a config that objects are built from."""
    for place in BUILT:
        yield from _all_settings(cfg.get(place), place)


def _all_settings(value: object, place: str) -> Iterator[PlacedSettings]:
    """Yield every dict within `value`."""
    if isinstance(value, dict):
        yield PlacedSettings(place, value)
    if isinstance(value, (dict, list, tuple)):
        for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _all_settings(entry, f'{place}.{name}')


def registered(wanted: str | Callable, scope: str) -> list[tuple[str, Callable]]:
    """Return everything registered under a name; samplers of boxes and images may share one.

    Returns:
        Pairs of registry name and class; the registry name is empty if `wanted` is itself a class.
    """
    if not isinstance(wanted, str):
        return [('', wanted)] if callable(wanted) else []
    found = []
    for registry in _registries(scope):
        try:
            built = registry.get(wanted)
        except RuntimeError:  # raised by mmengine for a missing name
            continue
        if callable(built):
            found.append((registry.name, built))
    return found


@functools.cache
def _registries(scope: str) -> list[Registry]:
    """Return the registries of a library, which also search mmengine's."""
    try:
        module = importlib.import_module(f'{scope}.registry')
    except ImportError:
        module = mmengine.registry
    return [value for value in vars(module).values() if isinstance(value, Registry)]


def registered_names(scope: str) -> set[str]:
    """Return the names of all classes and functions that a library and mmengine have registered."""
    registries = list(_registries(scope))
    registries += [registry.parent for registry in registries if registry.parent]
    return {name for registry in registries for name in registry.module_dict}


class Others(enum.IntEnum):
    """What happens to unknown keys."""

    UNKNOWN = 0
    # `**kwargs` goes to a base class that rejects it, unless a class in between drops it.
    LIKELY_REFUSED = 1
    REFUSED = 2


@dataclass(frozen=True)
class Keywords:
    """Keys that something reads.

    Attributes:
        names: known keys.
        others: what happens to other keys.
    """

    names: frozenset[str]
    others: Others

    def including(self, names: Set[str]) -> 'Keywords':
        """Return these keys and some more."""
        return Keywords(self.names | names | READ_ANYWHERE, self.others)

    def either(self, other: 'Keywords') -> 'Keywords':
        """Return the union of these keys and others."""
        return Keywords(self.names | other.names, min(self.others, other.others))

    def loosely(self) -> 'Keywords':
        """Return these keys, with other keys possibly read too."""
        return Keywords(self.names, min(self.others, Others.LIKELY_REFUSED))

    def refuse(self, name: str) -> bool:
        """Return whether `name` would make building fail, or is almost certainly a misspelled key."""
        if name in self.names or self.others == Others.UNKNOWN:
            return False
        near = difflib.get_close_matches(name, self.names, 1, cutoff=ALL_BUT_THE_SAME)
        return self.others == Others.REFUSED or bool(near)


# Settings without a `type`, by place in the config: what receives them, and keys that are read besides.
BY_PLACE = {
    **dict.fromkeys(LOADERS, (DataLoader, {'num_batch_per_epoch', 'disable_subprocess_warning'})),
    'optim_wrapper': (OptimWrapper, READ_BESIDE_SIGNATURE['optim_wrapper']),
    'log_processor': (LogProcessor, set()),
    'randomness': (Runner.set_randomness, set()),
    'env_cfg.mp_cfg': (set_multi_processing, set()),
}
# Keys that DefaultOptimWrapperConstructor reads.
PARAMWISE = frozenset(
    {
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'dwconv_decay_mult',
        'flat_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
    }
)
OF_LAYER_DECAY = 'layer_decay_rate'
# Optimizer constructors with known keys. They ignore other keys.
PARAMWISE_OF = {
    'DefaultOptimWrapperConstructor': PARAMWISE,
    **dict.fromkeys(('LayerDecayConstructor', 'ReleasedDecayConstructor'), PARAMWISE | {OF_LAYER_DECAY}),
}
# Keys that do not appear in any signature.
READ_BY_NAME = {
    'env_cfg': Keywords(
        frozenset({'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'}), Others.LIKELY_REFUSED
    ),
    'env_cfg.dist_cfg': Keywords(
        frozenset({'backend', 'init_backend', 'timeout'}), Others.LIKELY_REFUSED
    ),
    'auto_scale_lr': Keywords(frozenset({'enable', 'base_batch_size'}), Others.LIKELY_REFUSED),
    # torch.nn.utils.clip_grad_norm_ and clip_grad_value_
    'optim_wrapper.clip_grad': Keywords(
        frozenset({'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'}),
        Others.LIKELY_REFUSED,
    ),
    # `check_paramwise` rejects other keys if the constructor is known.
    'optim_wrapper.paramwise_cfg': Keywords(PARAMWISE | {OF_LAYER_DECAY}, Others.UNKNOWN),
}


def check_keywords(cfg: Config) -> None:
    """Check all settings to be built against the signatures of their classes.

    Raises:
        UserError: a class does not accept a key, so building would fail; the message suggests the
            nearest key.
    """
    for settings in built_settings(cfg):
        known = keywords_of(settings.content, settings.place, cfg.default_scope)
        for key in settings.content if known else ():
            if known.refuse(key):
                near = did_you_mean(key, known.names)
                of = f' of {settings.content["type"]}' if 'type' in settings.content else ''
                raise UserError(f'{settings.place}.{key} is not a setting{of}{near}')
    check_paramwise(cfg)


def check_paramwise(cfg: Config) -> None:
    """Check `paramwise_cfg`, since optimizer constructors ignore unknown keys.

    Raises:
        UserError: the constructor does not have a key.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    constructor = wrapper.get('constructor') or 'DefaultOptimWrapperConstructor'
    name = str(getattr(constructor, '__name__', constructor)).rpartition('.')[2]
    known = PARAMWISE_OF.get(name)
    for key in wrapper.get('paramwise_cfg') or () if known else ():
        if key not in known:
            other = "; give optim_wrapper.constructor='LayerDecayConstructor'"
            near = other if key == OF_LAYER_DECAY else did_you_mean(key, known)
            raise UserError(f'optim_wrapper.paramwise_cfg.{key} is not a setting of {name}{near}')


def keywords_of(settings: dict, place: str, scope: str) -> Keywords | None:
    """Return the keys that `settings` accepts; None if unknown.

    Args:
        settings: a part of a config.
        place: its dotted key, such as `model.backbone`.
        scope: scope of the registries, such as `mmdet`.

    Raises:
        UserError: its `type` is unknown.
    """
    if place in READ_BY_NAME:
        return READ_BY_NAME[place]
    if 'type' in settings:
        known = _keywords_of_type(settings['type'], scope)
        # Elsewhere the enclosing class may remove keys before it builds something from the rest.
        return known if known is None or BY_REGISTRY.fullmatch(place) else known.loosely()
    if place in BY_PLACE:
        built, extra = BY_PLACE[place]
        return signature_keywords(built).including(extra)
    return None


@functools.cache
def _keywords_of_type(wanted: str | Callable, scope: str) -> Keywords | None:
    found = registered(wanted, scope)
    known = [
        signature_keywords(built).including(
            READ_BESIDE_SIGNATURE.get(registry, set()) | _handed_on(built)
        )
        for registry, built in found
    ]
    return functools.reduce(Keywords.either, known) if known else None


def _handed_on(built: Callable) -> Set[str]:
    """Return the keywords that a class passes on to other functions and classes."""
    bases = inspect.getmro(built) if inspect.isclass(built) else ()
    takers = next((HANDED_ON[base] for base in bases if base in HANDED_ON), ())
    return {name for taker in takers for name in signature_keywords(taker).names} - {'model'}


def signature_keywords(built: Callable) -> Keywords:
    """Return the keys of a class or function, including base classes that receive `**kwargs`."""
    functions = [built]
    if inspect.isclass(built):
        functions = [vars(base)['__init__'] for base in built.__mro__[:-1] if '__init__' in vars(base)]
    names: set[str] = set()
    others = Others.UNKNOWN
    for position, function in enumerate(functions):
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:  # written in C
            continue
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            others = Others.LIKELY_REFUSED if position else Others.REFUSED
        if others == Others.REFUSED:
            break
    return Keywords(frozenset(names - {'self'}), others)
