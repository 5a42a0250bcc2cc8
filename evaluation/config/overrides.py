"""Overrides of a config from the command line: `--cfg-options KEY=VALUE`."""

import argparse
import ast
import difflib
import inspect
import warnings
from collections.abc import Iterable, Sequence

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

from evaluation.config.config_text import UNREADABLE
from evaluation.config.settings import ALL_BUT_THE_SAME, Others, keywords_of, setting
from evaluation.utils.errors import UserError, did_you_mean

# Top-level names that the suite or mmengine reads, besides the arguments of the runner.
READ_AT_TOP = frozenset(
    {
        'activation_checkpointing',
        'backbone_source_sha256',
        'compile',
        'contestant',
        'custom_imports',
        'efficient_conv_bn_eval',
        'find_unused_parameters',
        'model_wrapper_cfg',
        'recipe',
        'sync_bn',
        'tta_model',
        'tta_pipeline',
    }
)
# Top-level names that are read, but set by an option of the commands.
INSTEAD = {
    'data_root': '--data-root',
    'launcher': '--launcher',
    'checkpoint_key': '--checkpoint-key',
}
# Settings whose names the user chooses.
FREE_NAMES = ('custom_hooks', 'custom_keys', 'default_hooks', 'metainfo')
WORDS_FOR_NUMBERS = ('loss_scale',)
# Minimum similarity (see difflib) of a name to one that is known to be read.
MUCH_THE_SAME = 0.75


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Add the option `--cfg-options`, for every command that reads a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config, such as train_dataloader.batch_size=4',
    )


def add_backbone(parser: argparse.ArgumentParser) -> None:
    """Add the option `--backbone`, for every command that reads one config."""
    parser.add_argument(
        '--backbone',
        metavar='NAME',
        help='replace the backbone of the config, or give one to a recipe of configs/_base_: a scale '
        'such as dcn_tiny, timm:NAME or package.module:Class, with options as in '
        "'dcn_tiny(drop_path_rate=0.1)'",
    )


class OptionsAction(DictAction):
    """Parse `KEY=VALUE ...` to a dict; any other form is an argparse error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Check the form of each override, then read its value."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not all(key.split('.')):
                raise argparse.ArgumentError(
                    self, f'{text!r} is not KEY=VALUE, such as train_dataloader.batch_size=4'
                )
            try:
                options[key] = read_value(value)
            except ValueError as error:
                raise argparse.ArgumentError(self, f'{text!r}: {error}') from error
        setattr(namespace, self.dest, options)


def read_value(text: str) -> object:
    """Read a value: a Python literal or a short form of mmengine.

    Args:
        text: such as `4`, `[1,2]`, `{'type':'EMAHook'}`, `word`, `1,2` or `[a,b]`.

    Raises:
        ValueError: the text is neither.
    """
    text = text.strip()
    try:
        with warnings.catch_warnings():  # for words that look almost like numbers
            warnings.simplefilter('ignore')
            value = ast.literal_eval(text)
    except UNREADABLE:
        return _read_short_form(text)
    if isinstance(value, str):  # quotes that the shell did not remove
        return read_value(value)
    if isinstance(value, tuple) and not text.startswith('('):
        return list(value)
    return value if is_plain(value) else _read_short_form(text)


def is_plain(value: object) -> bool:
    """Return whether a value has types that configs use; sets and complex numbers are not among them."""
    if isinstance(value, dict):
        return all(map(is_plain, [*value, *value.values()]))
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _read_short_form(text: str) -> object:
    """Read words without quotes, and lists of them.

    Raises:
        ValueError: the text has neither form.
    """
    if any(text.count(opening) != text.count(closing) for opening, closing in ('()', '[]')):
        raise ValueError('the brackets do not match')
    literal = "not a Python value; quote words in it, as in [{'type':'EMAHook'}]"
    if text.startswith(('{', '[', '(')) and text.endswith(('}', ']', ')')) and '{' in text:
        raise ValueError(literal)
    try:
        return DictAction._parse_iterable(text)
    except (AssertionError, *UNREADABLE) as error:
        raise ValueError(literal) from error


def merge_options(cfg: Config, options: dict) -> list[str]:
    """Override settings of a config.

    Args:
        cfg: a config as it was read; changed.
        options: values by dotted keys, such as `train_dataloader.batch_size`; numbers index lists.

    Returns:
        Warnings about overrides that nothing is known to read.

    Raises:
        UserError: a key does not fit the config, or a value has a different type than the one that it
            replaces.
    """
    reasons, added = {}, []
    for key, value in options.items():
        holder, place, name, rest = find(cfg, key)
        reasons[key] = why_top_is_unread(cfg, place.split('.')[0] if place else name)
        present = name in holder_names(holder)
        if not present:
            path = [*filter(None, [place]), name, *rest]
            added += [(key, '.'.join(path[:end]), path[end]) for end in range(1, len(path))]
        if present and not rest:
            check_kind(key, entry(holder, name), value)
        override(cfg, key, value)
    # Check last: the `type` next to a new setting may itself be new.
    for key, place, name in added:
        reasons[key] = reasons[key] or why_unread(cfg, place, name)
    return [f'{key} may have no effect: {why}' for key, why in reasons.items() if why]


def override(cfg: Config, key: str, value: object) -> None:
    """Set a value at a checked key; merge a dict into an existing one."""
    holder, place, name, rest = find(cfg, key)
    is_dict = isinstance(value, dict)
    if isinstance(holder, (list, tuple)) and not rest and not (is_dict and '_delete_' not in value):
        # mmengine only merges dicts into list entries; it does not replace entries.
        entries = [*holder]
        entries[int(name)] = {k: v for k, v in value.items() if k != '_delete_'} if is_dict else value
        override(cfg, place, type(holder)(entries))
        return
    into_settings = name in holder_names(holder) and (rest or is_dict)
    if into_settings and not isinstance(entry(holder, name), (dict, list, tuple)):
        # mmengine does not put settings into a plain value or None.
        holder[int(name) if isinstance(holder, list) else name] = ConfigDict()
    cfg.merge_from_dict({key: value})


def find(cfg: Config, key: str) -> tuple[dict | Sequence, str, str, list[str]]:
    """Follow a dotted key as far as it exists in the config.

    Returns:
        The last dict or list on the way, its place, the part of the key to look up in it, and the
        remaining parts.

    Raises:
        UserError: the key continues below a plain value, or a list does not have the entry.
    """
    here, passed, parts = cfg, [], key.split('.')
    while True:
        name, rest = parts[len(passed)], parts[len(passed) + 1 :]
        place = '.'.join(passed)
        if isinstance(here, (list, tuple)) and not (name.isdigit() and int(name) < len(here)):
            raise UserError(f'{key}: {place} has no entry {name}; give 0 to {len(here) - 1}')
        if name not in holder_names(here):
            return here, place, name, rest
        below = entry(here, name)
        if not rest or below is None:
            return here, place, name, rest
        if not isinstance(below, (dict, list, tuple)):
            raise UserError(f'{key}: {place}{"." * bool(place)}{name} is {below!r} and has no settings')
        here = below
        passed.append(name)


def holder_names(holder: dict | Sequence) -> list[str]:
    """Return the names of the entries of a dict or list."""
    if isinstance(holder, (list, tuple)):
        return [str(index) for index in range(len(holder))]
    return [str(name) for name in holder]


def entry(holder: dict | Sequence, name: str) -> object:
    """Return an entry of a dict or list."""
    return holder[int(name)] if isinstance(holder, (list, tuple)) else holder[name]


def check_kind(key: str, old: object, new: object) -> None:
    """Check that a new value has the type of the old one.

    Raises:
        UserError: the type is different.
    """
    if isinstance(old, bool):
        expected = None if isinstance(new, bool) or new in (0, 1, None) else 'True or False'
    elif isinstance(old, (int, float)) and not key.endswith(WORDS_FOR_NUMBERS):
        expected = 'a number' if isinstance(new, (str, dict)) else None
    elif isinstance(old, (list, tuple)):
        expected = 'a list such as [1,2]' if isinstance(new, (str, dict)) else None
    elif isinstance(old, dict):
        expected = (
            None
            if new is None or isinstance(new, dict)
            else f'individual settings, such as {key}.NAME=VALUE'
        )
    else:
        expected = None
    if expected:
        raise UserError(f'{key}={new!r}: give {expected}')


def why_top_is_unread(cfg: Config, top: str) -> str | None:
    """Return why nothing reads a top-level part of the config; None if something does."""
    read = {*inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'} | READ_AT_TOP
    if top in INSTEAD:
        return f'use {INSTEAD[top]} instead'
    if top not in read:
        if top not in cfg:
            return f'the config has no {top}{did_you_mean(top, [*read, *cfg])}'
        copies = places_of(cfg, cfg[top], sorted(read & {*cfg}))
        where = f'; override {copies[0]} instead' if copies else ''
        return f'{top} was copied when the config was read{where}'
    return None


def why_unread(cfg: Config, place: str, name: str) -> str | None:
    """Return why nothing is known to read a new setting; None if something reads it, or might.

    If a place may have readers that no signature shows, only misspelled known names are reported.
    """
    holder = setting(cfg, place)
    if place.endswith(FREE_NAMES) or not isinstance(holder, dict):
        return None
    keywords = keywords_of(holder, place, cfg.get('default_scope'))
    known = keywords.names if keywords else frozenset()
    beside = {str(key) for key in holder} - {name}
    near = nearest(name, known, MUCH_THE_SAME) or nearest(name, beside, ALL_BUT_THE_SAME)
    may_be_read = keywords is None or keywords.others == Others.UNKNOWN
    if name in known or (may_be_read and not near):
        return None
    return f'{place} has no {name}' + (f'; did you mean {near[0]}?' if near else '')


def nearest(name: str, names: Iterable[str], likeness: float) -> list[str]:
    """Return the most similar name, ignoring case, as a list; empty if none is similar enough."""
    by_lower_case = {each.lower(): each for each in sorted(names)}
    near = difflib.get_close_matches(name.lower(), by_lower_case, 1, cutoff=likeness)
    return [by_lower_case[each] for each in near]


def places_of(cfg: Config, value: object, tops: list[str]) -> list[str]:
    """Return the places below some top-level keys whose value equals `value`."""
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
