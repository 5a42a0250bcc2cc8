"""Which keys the settings of a config may have, from the signatures of what is built with them."""

import builtins
import difflib
import enum
import functools
import inspect
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from types import ModuleType

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage
from mmengine.optim import OptimWrapper
from mmengine.runner import LogProcessor, Runner
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from evaluation.config.types import LOADERS, built_settings, registered
from evaluation.utils.errors import UserError, did_you_mean

# Read by mmengine before the rest is handed to the class.
READ_ANYWHERE = frozenset({'type', '_scope_', '_delete_'})
READ_BESIDE_SIGNATURE = {
    'hook': {'priority'},
    'parameter scheduler': {'convert_to_iter_based'},
    'optim_wrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
    'weight initializer': {'override', 'name', 'key'},  # the last one: `backbones.checkpoint`
    'model': {'requires_grad'},  # of norm layers
}
# What takes the keywords that a class, or one derived from it, hands on to it.
HANDED_ON = {
    CheckpointHook: (Runner.save_checkpoint,),
    EMAHook: (ExponentialMovingAverage, MomentumAnnealingEMA, StochasticWeightAverage),
}
# Likeness of two names (see difflib) that differ by a slip.
ALL_BUT_THE_SAME = 0.85
# The same, where one of them is known to be read.
MUCH_THE_SAME = 0.75


class Others(enum.IntEnum):
    """What becomes of a key that is not among the known ones."""

    UNKNOWN = 0
    # `**kwargs` goes to a base class that refuses it, unless a class on the way drops it.
    LIKELY_REFUSED = 1
    REFUSED = 2


@dataclass(frozen=True)
class Keywords:
    """Keys that something reads.

    Attributes:
        names: those that are known.
        others: what becomes of any other.
    """

    names: frozenset[str]
    others: Others

    def including(self, names: Set[str]) -> 'Keywords':
        """These and some more."""
        return Keywords(self.names | names | READ_ANYWHERE, self.others)

    def either(self, other: 'Keywords') -> 'Keywords':
        """Those of one or the other."""
        return Keywords(self.names | other.names, min(self.others, other.others))

    def refuse(self, name: str) -> bool:
        """Whether building with `name` would fail, or it is all but one of the known names."""
        if name in self.names or self.others == Others.UNKNOWN:
            return False
        near = difflib.get_close_matches(name, self.names, 1, cutoff=ALL_BUT_THE_SAME)
        return self.others == Others.REFUSED or bool(near)


# Settings without a `type`, by their place in the config: what they go to, and keys read beside it.
BY_PLACE = {
    **dict.fromkeys(LOADERS, (DataLoader, {'num_batch_per_epoch', 'disable_subprocess_warning'})),
    'optim_wrapper': (OptimWrapper, READ_BESIDE_SIGNATURE['optim_wrapper']),
    'log_processor': (LogProcessor, set()),
    'randomness': (Runner.set_randomness, set()),
    'env_cfg.mp_cfg': (set_multi_processing, set()),
}
READ_BY_NAME = {
    'env_cfg': Keywords(
        frozenset({'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'}), Others.UNKNOWN
    ),
    'auto_scale_lr': Keywords(frozenset({'enable', 'base_batch_size'}), Others.UNKNOWN),
}
# Keys of settings without a `type` that no signature shows, by the last part of their place.
WELL_KNOWN = {
    # DefaultOptimWrapperConstructor, and the last one LayerDecayConstructor
    'paramwise_cfg': frozenset(
        {
            'custom_keys',
            'bias_lr_mult',
            'bias_decay_mult',
            'norm_decay_mult',
            'dwconv_decay_mult',
            'flat_decay_mult',
            'dcn_offset_lr_mult',
            'bypass_duplicate',
            'layer_decay_rate',
        }
    ),
    # torch.nn.utils.clip_grad_norm_ and clip_grad_value_
    'clip_grad': frozenset(
        {'type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'}
    ),
    'dist_cfg': frozenset({'backend', 'init_backend', 'timeout'}),
}


def check_keywords(cfg: Config) -> None:
    """Check all that will be built against the signature of its class.

    Raises:
        UserError: a key is none of its class's, so that building it would fail; the message has the
            nearest.
    """
    for settings in built_settings(cfg):
        known = keywords_of(settings.content, settings.place, cfg.default_scope)
        for key in settings.content if known else ():
            if known.refuse(key) and not is_named_by(settings.types, cfg.default_scope, key):
                near = did_you_mean(key, known.names)
                of = f' of {settings.content["type"]}' if 'type' in settings.content else ''
                raise UserError(f'{settings.place}.{key} is no setting{of}{near}')


def is_named_by(types: Sequence[str | Callable], scope: str, key: str) -> bool:
    """Whether a class, or one that holds it, has `'key'` in its source: it may read it by itself."""
    built = [Runner, *(found for each in types for _, found in registered(each, scope))]
    classes = [base for each in built for base in getattr(each, '__mro__', (each,))]
    modules = {inspect.getmodule(each) for each in classes} - {None, builtins}
    quoted = re.compile(rf'[\'"]{re.escape(key)}[\'"]')
    return any(quoted.search(_source(module)) for module in modules)


@functools.cache
def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except (OSError, TypeError):  # written in C
        return ''


def keywords_of(settings: dict, place: str, scope: str) -> Keywords | None:
    """Keys that `settings` may have; None where that is not known.

    Args:
        settings: a part of a config.
        place: where it stands in it, such as `model.backbone`.
        scope: of the registries, such as `mmdet`.

    Raises:
        UserError: its `type` is unknown.
    """
    if place in READ_BY_NAME:
        return READ_BY_NAME[place]
    if 'type' in settings:
        return _keywords_of_type(settings['type'], scope)
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
    """Keywords that what a class hands them on to takes."""
    bases = inspect.getmro(built) if inspect.isclass(built) else ()
    takers = next((HANDED_ON[base] for base in bases if base in HANDED_ON), ())
    return {name for taker in takers for name in signature_keywords(taker).names} - {'model'}


def why_unknown(settings: dict, place: str, scope: str, key: str) -> str | None:
    """What is wrong with a key that nothing is known to read; None where something does, or may.

    The keys of a class, and of what mmengine reads by name, are known, so that any other is read by
    nothing. Other settings may have readers that no signature shows: there only what differs from a key
    by a slip is wrong.

    Args:
        settings: a part of a config.
        place: where it stands in it, such as `model.backbone`.
        scope: of the registries, such as `mmdet`.
        key: one of `settings`.
    """
    keywords = keywords_of(settings, place, scope)
    listed = WELL_KNOWN.get(place.rpartition('.')[2], set())
    known = (keywords.names if keywords else set()) | listed
    if key in known:
        return None
    beside = {str(name) for name in settings} - {key}
    near = nearest(key, known, MUCH_THE_SAME) or nearest(key, beside, ALL_BUT_THE_SAME)
    if not near and not listed and not keywords:
        return None
    return f'{place} has no {key}' + (f'; did you mean {near[0]}?' if near else '')


def nearest(name: str, names: Iterable[str], likeness: float) -> list[str]:
    """The name most like another, if it is that much like it; upper and lower case are alike."""
    by_lower_case = {each.lower(): each for each in sorted(names)}
    near = difflib.get_close_matches(name.lower(), by_lower_case, 1, cutoff=likeness)
    return [by_lower_case[each] for each in near]


def signature_keywords(built: Callable) -> Keywords:
    """Keys that a class or function takes, and its base classes where `**kwargs` passes them on."""
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
