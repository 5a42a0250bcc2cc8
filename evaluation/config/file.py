"""Reads config files, and says in one line what is wrong with one."""

import ast
import importlib
import os
import pkgutil
import re
import traceback
from pathlib import Path

from mmengine.config import Config
from mmengine.config.utils import ConfigParsingError

from evaluation.config.imports import check_imports, keep_inherited_imports
from evaluation.config.moved_modules import current_name
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
    if not any(isinstance(node, ast.Name) and node.id == 'contestant' for node in ast.walk(tree)):
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
