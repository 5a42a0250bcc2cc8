"""Read and format the text of configs in logs, checkpoints and results.

The text is parsed as data; it is never executed.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator

from mmengine.config import Config

from evaluation.config.settings import registered_names
from evaluation.utils.errors import UserError

# Errors of Python's parser: bad syntax, null bytes, nesting too deep, or an impossible value such as a
# set of lists.
UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
# Packages whose modules may be imported and whose registries may be used.
TRUSTED = ('backbones', 'evaluation', 'mmcv', 'mmdet', 'mmengine', 'mmseg')


def read_literals(text: str, keep_tuples: bool = False) -> dict:
    """Return the values of the top-level names in a config that mmengine printed.

    Literals and `dict(...)` are read. Any other expression is returned as its source text: the file may
    come from anyone, so nothing is executed.

    Args:
        text: text of a config, such as `model = dict(depth=50)`.
        keep_tuples: whether to keep tuples, to build from the config; else convert them to lists, to
            compare values.

    Returns:
        Values by name, such as `{'model': {'depth': 50}}`; empty if `text` is not valid Python or nested
        too deeply.
    """
    try:
        return {
            target.id: _value(statement.value, tuple if keep_tuples else list)
            for statement in ast.parse(text).body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except UNREADABLE:
        return {}


def _value(node: ast.expr, of_tuples: type) -> object:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return {
            keyword.arg: _value(keyword.value, of_tuples) for keyword in node.keywords if keyword.arg
        }
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key): _value(value, of_tuples)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant)
        }
    if isinstance(node, (ast.List, ast.Tuple)):
        kind = list if isinstance(node, ast.List) else of_tuples
        return kind(_value(entry, of_tuples) for entry in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def check_received(config: Config, built: tuple[str, ...]) -> None:
    """Check that building parts of a config runs only classes of the suite and its libraries.

    mmengine treats a `type` with dots as the path of any function, imports a `type` that no registry
    has, and calls what it finds.

    Args:
        config: a config of literals only.
        built: parts that something will be built from.

    Raises:
        UserError: the config names a module, scope or type of another package.
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
    """Return whether a name is registered in a trusted package, or cannot be imported at all."""
    package, dot, rest = name.partition('.')
    if dot:
        return package in TRUSTED and rest in registered_names(package)
    return name in TRUSTED or (name != '' and importlib.util.find_spec(name) is None)


def _check_package(what: str, name: object) -> None:
    if not isinstance(name, str) or name.partition('.')[0] not in TRUSTED:
        raise _refusal(f'{what} {name}')


def _refusal(what: str) -> UserError:
    return UserError(
        f'its config {what}, which is not part of the suite or its libraries; configs stored in results '
        'must not import or run anything else'
    )


def _names(value: object) -> Iterator[tuple[str, object]]:
    """Yield every `type` and `_scope_` at any depth."""
    if isinstance(value, dict):
        yield from ((key, value[key]) for key in ('type', '_scope_') if value.get(key) is not None)
    if isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _names(each)


def remember_layout() -> None:
    """Cache the last results of yapf.

    mmengine formats the config with it for each log, result and checkpoint, 0.1 to 0.5 s each time.
    """
    from yapf.yapflib import yapf_api

    original = yapf_api.FormatCode
    if hasattr(original, 'known'):
        return

    @functools.lru_cache(maxsize=4)
    def lay_out(text: str, style: tuple[tuple[str, object], ...]) -> tuple[str, bool]:
        return original(text, style_config=dict(style))

    def remembered(text: str, style_config: dict[str, object]) -> tuple[str, bool]:
        return lay_out(text, tuple(style_config.items()))

    remembered.known = lay_out
    yapf_api.FormatCode = remembered
