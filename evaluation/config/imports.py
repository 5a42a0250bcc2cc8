"""Check and complete what pure-Python configs import from one another."""

import ast
import os
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from evaluation.config.text import UNREADABLE
from evaluation.utils.errors import UserError, did_you_mean


def check_imports(file: Path) -> list[Path]:
    """Follow the relative imports of a config, without running it.

    Returns:
        The config and, each once, all that it takes something from.

    Raises:
        UserError: one of them has a syntax error, is missing, or lacks a name that is taken from it; the
            message names file and line.
    """
    names: dict[Path, set[str]] = {}
    _names_defined_in(file, names)
    return list(names)


def _names_defined_in(file: Path, read: dict[Path, set[str]]) -> set[str]:
    """Top-level names of a config, its imported ones too; enters them in `read`."""
    if file not in read:
        tree = _parse(file)
        read[file] = _assigned(tree)
        for statement in _base_imports(tree):
            base = file.parent.joinpath(*['..'] * (statement.level - 1), *statement.module.split('.'))
            base = Path(os.path.normpath(base.with_suffix('.py')))
            read[file] |= _taken(statement, file, base, read)
    return read[file]


def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding='utf-8'), str(file))
    except SyntaxError as error:
        raise UserError(f'config {file}, line {error.lineno}: syntax error: {error.msg}') from error
    except ValueError as error:  # not UTF-8, or null bytes
        raise UserError(f'config {file} is not Python text: {error}') from error
    except OSError as error:
        raise UserError(f'config {file} cannot be read: {error.strerror}') from error


def _base_imports(tree: ast.Module) -> list[ast.ImportFrom]:
    """Relative imports within `with` statements; mmengine itself looks after absolute ones."""
    blocks = [node for node in tree.body if isinstance(node, ast.With)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return [node for node in imports if node.level and node.module]


def _taken(statement: ast.ImportFrom, file: Path, base: Path, read: dict[Path, set[str]]) -> set[str]:
    """Names that an import statement of `file` brings in from `base`."""
    place = f'config {file}, line {statement.lineno}'
    if not base.is_file():
        near = did_you_mean(base.stem, [path.stem for path in base.parent.glob('*.py')])
        raise UserError(f'{place}: there is no {base.name} in {base.parent.name}/ to import from{near}')
    found = _names_defined_in(base, read)
    if statement.names[0].name == '*':
        return found
    for alias in statement.names:
        if alias.name not in found:
            near = did_you_mean(alias.name, found)
            raise UserError(f'{place}: {base.name} has no {alias.name}{near}')
    return {alias.asname or alias.name for alias in statement.names}


def _assigned(tree: ast.Module) -> set[str]:
    """Names that a config binds, by assignment or by importing what is no config."""
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = [alias for node in imports for alias in node.names]
    return names | {alias.asname or alias.name.split('.')[0] for alias in imported}


def keep_inherited_imports(cfg: Config, files: Sequence[Path]) -> None:
    """Add to `custom_imports` what the files below a config import; a config replaces the whole list.

    Args:
        cfg: a config; changed where an import was lost.
        files: those that it was read from, itself first.
    """
    own = cfg.get('custom_imports')
    if not own:
        return
    names = own.get('imports') or []
    names = [names] if isinstance(names, str) else [*names]
    inherited = [name for file in files[1:] for name in imports_in(file)]
    # Lists that have all stay as they are, and so does the digest of their config.
    lost = [name for name in dict.fromkeys(inherited) if name not in names]
    if lost:
        cfg.custom_imports.imports = [*lost, *names]


def imports_in(file: Path) -> list[str]:
    """Modules that a config file lists in `custom_imports = dict(imports=[...])`, or in a literal."""
    found: list[str] = []
    for statement in ast.parse(file.read_text(encoding='utf-8')).body:
        if not isinstance(statement, ast.Assign):
            continue
        if 'custom_imports' not in [
            target.id for target in statement.targets if isinstance(target, ast.Name)
        ]:
            continue
        for name, value in _entries(statement.value):
            if name == 'imports':
                found += _literal_names(value)
    return found


def _entries(value: ast.expr) -> list[tuple[object, ast.expr]]:
    """Names and values of `dict(...)` or `{...}`."""
    if isinstance(value, ast.Call):
        return [(keyword.arg, keyword.value) for keyword in value.keywords]
    if isinstance(value, ast.Dict):
        return [
            (getattr(key, 'value', None), entry)
            for key, entry in zip(value.keys, value.values, strict=True)
        ]
    return []


def _literal_names(value: ast.expr) -> list[str]:
    try:
        names = ast.literal_eval(value)
    except UNREADABLE:
        return []
    return [names] if isinstance(names, str) else [*names]
