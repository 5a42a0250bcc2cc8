"""Imports of the configs that a config builds on, which it would lose by setting its own."""

import ast
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from evaluation.config.text import UNREADABLE


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
