"""A config that came with a result, which is data: what it may name, so that nothing else is run."""

import importlib.util
from collections.abc import Iterator

from mmengine.config import Config

from evaluation.config.types import registered_names
from evaluation.utils.errors import UserError

# Whose modules may be imported, and whose registries may be asked.
PACKAGES = ('backbones', 'evaluation', 'mmcv', 'mmdet', 'mmengine', 'mmseg')


def check_received(config: Config, built: tuple[str, ...]) -> None:
    """Look whether building parts of a config runs nothing but classes of the suite and its libraries.

    mmengine takes a `type` with dots for the place of any function, imports a `type` that no registry
    has, and calls what it finds.

    Args:
        config: of literals alone.
        built: its parts that something is to be built from.

    Raises:
        UserError: it names a module, scope or type of another package.
    """
    modules = (config.get('custom_imports') or {}).get('imports') or []
    for name in [modules] if isinstance(modules, str) else modules:
        _check_package('imports', name)
    _check_package('has the default_scope', config.default_scope)
    for part in built:
        for key, name in _names(config.to_dict().get(part)):
            if not isinstance(name, str):
                raise _refusal(f'has the {key} {name!r}')
            if not _is_harmless(name):
                raise _refusal(f'has the {key} {name}')


def _is_harmless(name: str) -> bool:
    """Whether a name is of a registered class or function, or of nothing that could be imported."""
    package, dot, rest = name.partition('.')
    if dot:
        return package in PACKAGES and rest in registered_names(package)
    return name in PACKAGES or (name != '' and importlib.util.find_spec(name) is None)


def _check_package(what: str, name: object) -> None:
    if not isinstance(name, str) or name.partition('.')[0] not in PACKAGES:
        raise _refusal(f'{what} {name}')


def _refusal(what: str) -> UserError:
    return UserError(
        f'its config {what}, which is no part of the suite or its libraries; a result is data, and has '
        'nothing else imported or run'
    )


def _names(value: object) -> Iterator[tuple[str, object]]:
    """Every `type` and `_scope_` at any depth."""
    if isinstance(value, dict):
        yield from ((key, value[key]) for key in ('type', '_scope_') if value.get(key) is not None)
    if isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _names(each)
