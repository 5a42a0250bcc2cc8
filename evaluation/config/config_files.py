"""Read config files, with one-line errors."""

import ast
import importlib
import os
import pkgutil
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from evaluation.config.config_text import UNREADABLE
from evaluation.config.digests import current_name
from evaluation.utils.errors import UserError, did_you_mean


def read_config(file: str) -> Config:
    """Read a config and import the modules that it names.

    Raises:
        UserError: the file is missing or cannot be read; the message names file and line, and the
            nearest known name for a misspelled one.
    """
    path = Path(file)
    check_config_file(path)
    files = check_imports(Path(os.path.normpath(path)))
    try:
        # Stored configs may name modules that have moved since; `import_modules` knows the new names.
        cfg = Config.fromfile(path, import_custom_modules=False)
    except Exception as error:
        place = _place_in_config(error, files)
        if place is None and not isinstance(error, (ConfigParsingError, SyntaxError, OSError)):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ''
        raise UserError(f'config {place or path}: {type(error).__name__}: {reason}') from error
    keep_inherited_imports(cfg, files)
    _forget_inherited_contestant(cfg, path)
    import_modules(cfg, files)
    return cfg


def check_config_file(path: Path) -> None:
    """Check that a config file exists.

    Raises:
        UserError: the path is missing, a folder, or not a Python file.
    """
    if path.is_dir():
        raise UserError(f'config {path} is a folder; give a .py file in it')
    if not path.is_file():
        raise UserError(f'config {path} is not a file{_nearest_files(path)}')
    if path.suffix != '.py':
        raise UserError(f'config {path} is not a .py file; give a config such as those in configs/')


def _nearest_files(path: Path) -> str:
    """Return a hint with the most similar file names in the same folder."""
    names = {p.name: str(p) for p in path.parent.glob('*.py')}
    near = did_you_mean(path.name, names, count=3)
    return re.sub(r'\S+\.py', lambda match: names[match[0]], near)


def _forget_inherited_contestant(cfg: Config, path: Path) -> None:
    """Drop a `contestant` that another file declares.

    A config that imports a leaf changes it in some way. With the leaf's name, tables would compare it
    with the published figures of the leaf.
    """
    tree = ast.parse(path.read_text(encoding='utf-8'))
    names = {getattr(node, 'id', None) or getattr(node, 'name', None) for node in ast.walk(tree)}
    if 'contestant' not in names:
        cfg.pop('contestant', None)


def _place_in_config(error: Exception, files: list[Path]) -> str | None:
    """Return file and line of the config code that raised; None if it was not config code."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(os.path.normpath(frame.filename))
        if file in files:
            return f'{file}, line {frame.lineno}'
    return None


def import_modules(cfg: Config, files: list[Path]) -> None:
    """Import the modules in `custom_imports`, under their current names.

    Args:
        cfg: a config.
        files: files that it was read from, to report where a module is named; empty for a config stored
            in a result.

    Raises:
        UserError: a module does not exist. Errors inside a module keep their traceback.
    """
    wishes = cfg.get('custom_imports') or {}
    names = wishes.get('imports') or []
    for name in [names] if isinstance(names, str) else names:
        try:
            importlib.import_module(current_name(name))
        except ModuleNotFoundError as error:
            if wishes.get('allow_failed_imports'):
                continue
            if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
                raise
            place = _place_of_text(name, files)
            near = did_you_mean(name, _modules_beside(name))
            raise UserError(f'config {place}: there is no module {name} to import{near}') from error


def _place_of_text(text: str, files: list[Path]) -> str:
    """Return the file and line of a config that contain a string."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Constant) and node.value == text:
                return f'{file}, line {node.lineno}'
    return str(files[0]) if files else 'of the result'


def _modules_beside(name: str) -> list[str]:
    """Return the modules of the package that `name` belongs to; known packages for a top-level name."""
    parent, _, _ = name.rpartition('.')
    if not parent:
        return ['backbones', 'evaluation', 'mmdet', 'mmseg']
    try:
        package = importlib.import_module(parent)
    except ImportError:
        return []
    return [
        f'{parent}.{module.name}' for module in pkgutil.iter_modules(getattr(package, '__path__', []))
    ]


def check_imports(file: Path) -> list[Path]:
    """Follow the relative imports of a config, without running it.

    Returns:
        The config and all files that it imports from, without duplicates.

    Raises:
        UserError: a file has a syntax error, is missing, or lacks an imported name; the message names
            file and line.
    """
    names: dict[Path, set[str]] = {}
    _names_defined_in(file, names)
    return list(names)


def _names_defined_in(file: Path, read: dict[Path, set[str]]) -> set[str]:
    """Return the top-level names of a config, including imported ones, and add them to `read`."""
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
    """Return the relative imports within `with` statements; mmengine checks absolute ones."""
    blocks = [node for node in tree.body if isinstance(node, ast.With)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return [node for node in imports if node.level and node.module]


def _taken(statement: ast.ImportFrom, file: Path, base: Path, read: dict[Path, set[str]]) -> set[str]:
    """Return the names that an import statement in `file` takes from `base`."""
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
    """Return the names that a config binds by assignment or by importing ordinary modules."""
    nodes = list(ast.walk(tree))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = [alias for node in imports for alias in node.names]
    return names | {alias.asname or alias.name.split('.')[0] for alias in imported}


def keep_inherited_imports(cfg: Config, files: Sequence[Path]) -> None:
    """Restore inherited entries of `custom_imports`, since a config replaces the whole list.

    Args:
        cfg: a config; changed if an import was lost.
        files: files that it was read from, itself first.
    """
    own = cfg.get('custom_imports')
    if not own:
        return
    names = own.get('imports') or []
    names = [names] if isinstance(names, str) else [*names]
    inherited = [name for file in files[1:] for name in imports_in(file)]
    # Complete lists are not changed, so the digests of their configs stay the same.
    lost = [name for name in dict.fromkeys(inherited) if name not in names]
    if lost:
        cfg.custom_imports.imports = [*lost, *names]


def imports_in(file: Path) -> list[str]:
    """Return the modules listed in `custom_imports = dict(imports=[...])` or in a dict literal."""
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
    """Return the keys and values of `dict(...)` or `{...}`."""
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
