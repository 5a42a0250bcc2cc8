"""Read config files, and say in one line what is wrong with one."""

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
        UserError: there is no such file, or it cannot be read; the message names file and line, and the
            nearest where a name is misspelt.
    """
    path = Path(file)
    check_config_file(path)
    files = check_imports(Path(os.path.normpath(path)))
    try:
        # Stored configs may name modules that were moved since; `import_modules` knows them.
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
    """Look for the file.

    Raises:
        UserError: it is not there, a folder, or no Python file.
    """
    if path.is_dir():
        raise UserError(f'config {path} is a folder; give a .py file in it')
    if not path.is_file():
        raise UserError(f'config {path} is not a file{_nearest_files(path)}')
    if path.suffix != '.py':
        raise UserError(f'config {path} is not a .py file; give a config such as those in configs/')


def _nearest_files(path: Path) -> str:
    """Files beside it whose names are nearest."""
    names = {p.name: str(p) for p in path.parent.glob('*.py')}
    near = did_you_mean(path.name, names, count=3)
    return re.sub(r'\S+\.py', lambda match: names[match[0]], near)


def _forget_inherited_contestant(cfg: Config, path: Path) -> None:
    """Drop a `contestant` that another file declares.

    A config that imports a leaf changes something of it. Under its name, tables would compare that
    with what is published of the leaf.
    """
    tree = ast.parse(path.read_text(encoding='utf-8'))
    names = {getattr(node, 'id', None) or getattr(node, 'name', None) for node in ast.walk(tree)}
    if 'contestant' not in names:
        cfg.pop('contestant', None)


def _place_in_config(error: Exception, files: list[Path]) -> str | None:
    """File and line of the config code that raised, if it was config code."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(os.path.normpath(frame.filename))
        if file in files:
            return f'{file}, line {frame.lineno}'
    return None


def import_modules(cfg: Config, files: list[Path]) -> None:
    """Import what `custom_imports` names, under the names that modules have today.

    Args:
        cfg: a config.
        files: those that it was read from, to say where a module is named; none for one that came with
            a result.

    Raises:
        UserError: there is no such module. What goes wrong inside one keeps its traceback.
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
    """File and line of a config where a string stands."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Constant) and node.value == text:
                return f'{file}, line {node.lineno}'
    return str(files[0]) if files else 'of the result'


def _modules_beside(name: str) -> list[str]:
    """Modules of the package that `name` would be in; of the top level, packages of the suite."""
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
