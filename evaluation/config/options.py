"""Overrides of a config from the command line: `--cfg-options KEY=VALUE`."""

import argparse
import inspect
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

from evaluation.config.keywords import is_named_by, keywords_of
from evaluation.config.types import setting
from evaluation.errors import UserError, did_you_mean

# Read by the suite or by mmengine apart from the runner's own arguments.
READ_AT_TOP = frozenset(
    {
        'activation_checkpointing',
        'compile',
        'custom_imports',
        'efficient_conv_bn_eval',
        'find_unused_parameters',
        'model_wrapper_cfg',
        'sync_bn',
        'tta_model',
        'tta_pipeline',
    }
)
# Read, but an option of the commands sets them.
INSTEAD = {
    'data_root': '--data-root',
    'work_dir': '--work-dir',
    'launcher': '--launcher',
    'randomness': '--seed and --deterministic',
    'checkpoint_key': '--checkpoint-key',
}
# Settings whose names the user chooses.
FREE_NAMES = ('custom_hooks', 'custom_keys', 'default_hooks', 'metainfo')
WORDS_FOR_NUMBERS = ('loss_scale',)


class OptionsAction(DictAction):
    """`KEY=VALUE ...` as a dict; what has another form is refused as argparse refuses."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Check the form, then parse as mmengine does."""
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not all(key.split('.')):
                raise argparse.ArgumentError(
                    self, f'{text!r} has not the form KEY=VALUE, such as train_dataloader.batch_size=4'
                )
            if any(value.count(opening) != value.count(closing) for opening, closing in ('()', '[]')):
                raise argparse.ArgumentError(self, f'the brackets of {text!r} do not match')
        super().__call__(parser, namespace, values, option_string)


def merge_options(cfg: Config, options: dict) -> list[str]:
    """Override settings of a config.

    Args:
        cfg: a config as it was read; changed.
        options: values by dotted keys, such as `train_dataloader.batch_size`; numbers stand for entries
            of lists.

    Returns:
        What to warn of: overrides that nothing is known to read.

    Raises:
        UserError: a key leads nowhere, or a value is of another kind than the one that it replaces.
    """
    warnings = []
    for key, value in options.items():
        holder, place, name, rest = find(cfg, key)
        if reason := why_unread(cfg, holder, place, name):
            warnings.append(f'nothing is known to read {key}: {reason}')
        if not rest and name in holder_names(holder):
            check_kind(key, entry(holder, name), value)
        elif rest and name in holder_names(holder):  # None, which mmengine would not put settings into
            holder[int(name) if isinstance(holder, list) else name] = ConfigDict()
        cfg.merge_from_dict({key: value})
    return warnings


def find(cfg: Config, key: str) -> tuple[dict | Sequence, str, str, list[str]]:
    """Follow a dotted key as far as the config goes.

    Returns:
        The last dict or list on the way, its place, the part of the key that is looked up in it, and
        the parts after that.

    Raises:
        UserError: the key goes on below a plain value, or to an entry that a list does not have.
    """
    here, passed, parts = cfg, [], key.split('.')
    while True:
        name, rest = parts[len(passed)], parts[len(passed) + 1 :]
        place = '.'.join(passed)
        if isinstance(here, (list, tuple)) and not (name.isdigit() and int(name) < len(here)):
            raise UserError(f'{key}: {place} has the entries 0 to {len(here) - 1}, none called {name}')
        if name not in holder_names(here):
            return here, place, name, rest
        below = entry(here, name)
        if not rest or below is None:
            return here, place, name, rest
        if not isinstance(below, (dict, list, tuple)):
            raise UserError(f'{key}: {place}{"." * bool(place)}{name} is {below!r}, without settings')
        here = below
        passed.append(name)


def holder_names(holder: dict | Sequence) -> list[str]:
    """Names of the entries of a dict or list."""
    if isinstance(holder, (list, tuple)):
        return [str(index) for index in range(len(holder))]
    return [str(name) for name in holder]


def entry(holder: dict | Sequence, name: str) -> object:
    """An entry of a dict or list."""
    return holder[int(name)] if isinstance(holder, (list, tuple)) else holder[name]


def check_kind(key: str, old: object, new: object) -> None:
    """Check a value that replaces another.

    Raises:
        UserError: it is of another kind.
    """
    if isinstance(old, bool):
        expected = None if isinstance(new, bool) or new in (0, 1, None) else 'True or False'
    elif isinstance(old, (int, float)) and not key.endswith(WORDS_FOR_NUMBERS):
        expected = 'a number' if isinstance(new, str) else None
    elif isinstance(old, (list, tuple)):
        expected = 'a list such as [1,2]' if isinstance(new, str) else None
    elif isinstance(old, dict):
        expected = (
            None if new is None or isinstance(new, dict) else f'single settings, as {key}.NAME=VALUE'
        )
    else:
        expected = None
    if expected:
        raise UserError(f'{key}={new!r}: give {expected}')


def why_unread(cfg: Config, holder: dict | Sequence, place: str, name: str) -> str | None:
    """Why nothing reads an override; None where something does, or may."""
    top = place.split('.')[0] if place else name
    read = {*inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'} | READ_AT_TOP
    if top in INSTEAD:
        return f'{INSTEAD[top]} sets it'
    if top not in read:
        if top not in cfg:
            return f'the config has no {top}{did_you_mean(top, [*read, *cfg])}'
        copies = places_of(cfg, cfg[top], sorted(read & {*cfg}))
        where = f'; override {copies[0]} instead' if copies else ''
        return f'{top} was copied when the config was read{where}'
    if name in holder_names(holder) or not place or place.endswith(FREE_NAMES):
        return None
    known = keywords_of(holder, place, cfg.default_scope)
    names = {*(known.names if known else ()), *holder}
    if name in names or is_named_by(types_around(cfg, place), cfg.default_scope, name):
        return None
    near = did_you_mean(name, names)
    # Keys of a class that is in no registry, such as an operator's, are not known but for these.
    return None if known is None and 'type' in holder and not near else f'{place} has no {name}{near}'


def types_around(cfg: Config, place: str) -> list[str]:
    """Every `type` on the way to a place."""
    parts = place.split('.')
    holders = [setting(cfg, '.'.join(parts[:end])) for end in range(1, len(parts) + 1)]
    return [holder['type'] for holder in holders if isinstance(holder, dict) and 'type' in holder]


def places_of(cfg: Config, value: object, tops: list[str]) -> list[str]:
    """Places below some top-level keys where something equal to `value` stands."""
    found = []

    def search(here: object, place: str) -> None:
        if here == value:
            found.append(place)
        elif isinstance(here, dict):
            for name, below in here.items():
                search(below, f'{place}.{name}')
        elif isinstance(here, (list, tuple)):
            for index, below in enumerate(here):
                search(below, f'{place}.{index}')

    for top in tops:
        search(cfg[top], top)
    return found
