"""Classes of backbones by import path: find them, and identify their source code."""

import ast
import hashlib
import importlib
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import nn

from evaluation.config.config_text import TRUSTED
from evaluation.config.settings import registered
from evaluation.utils.errors import UserError, did_you_mean

INSTALLED = tuple({sysconfig.get_path(name) for name in ('stdlib', 'purelib', 'platlib')})


@dataclass(frozen=True)
class BackboneClass:
    """A class that a command line names.

    Attributes:
        type: `type` of its config: its registered name in mmdet or mmseg, otherwise its path.
        family: attribute `family` of the class, otherwise its package.
        source_sha256: digest of its source code; None for installed packages, whose version counts.
    """

    type: str
    family: str
    source_sha256: str | None


def find_class(path: str, name: str) -> BackboneClass:
    """Import a class.

    Args:
        path: path of the module, such as `package.module`; the current folder counts.
        name: name of the class.

    Raises:
        UserError: there is no such module or class, it is not a network, or the module cannot be
            imported.
    """
    place = f'--backbone {path}:{name}'
    module = _import(place, path)
    if not hasattr(module, name):
        networks = [key for key, value in vars(module).items() if _is_network(value)]
        raise UserError(f'{place}: {path} has no {name}{did_you_mean(name, networks)}')
    network = getattr(module, name)
    if not _is_network(network):
        what = 'derived from torch.nn.Module' if isinstance(network, type) else 'a class'
        raise UserError(
            f'{place}: {name} is not {what}; give a class derived from torch.nn.Module, which may build '
            'the network'
        )
    family = getattr(network, 'family', None) or network.__module__.partition('.')[0]
    return BackboneClass(_type_of(network, path, name), family, source_sha256(network))


def make_current_folder_importable() -> None:
    """Let modules in the current folder be imported, after those of the suite and its libraries."""
    folder = os.getcwd()
    if folder not in sys.path and '' not in sys.path:
        sys.path.append(folder)


def source_sha256(network: type) -> str | None:
    """Return the digest of the file of a class, and of the files that it imports from beside it.

    Args:
        network: a class.

    Returns:
        None for a class of an installed package or of the suite.
    """
    file = inspect.getsourcefile(network)
    top = network.__module__.partition('.')[0]
    if file is None or file.startswith(INSTALLED) or top in TRUSTED:
        return None
    source = Path(file).resolve()
    root = source.parents[network.__module__.count('.') + (source.stem == '__init__')]
    found: dict[Path, None] = {}
    _add_sources(source, root, found)
    digest = hashlib.sha256()
    for source in sorted(found):
        digest.update(f'{source.relative_to(root)}\n'.encode() + source.read_bytes())
    return digest.hexdigest()


def _add_sources(file: Path, root: Path, found: dict[Path, None]) -> None:
    """Add a file, and the files below `root` that it imports, directly or not."""
    if file in found or not file.is_relative_to(root):
        return
    found[file] = None
    for name in _imported(file, root):
        place = root.joinpath(*name.split('.'))
        for candidate in (place.with_suffix('.py'), place / '__init__.py'):
            if candidate.is_file():
                _add_sources(candidate, root, found)


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Yield the modules that a file imports, and names that may be modules."""
    package = file.relative_to(root).parts[:-1]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            parts = [*base, *filter(None, [node.module])]
            yield from ('.'.join([*parts, alias.name]) for alias in node.names)
            yield '.'.join(parts)


def _import(place: str, path: str) -> ModuleType:
    """Import a module.

    Raises:
        UserError: it does not exist, has a syntax error, or needs a module that does not exist. Other
            errors inside a module keep their traceback.
    """
    make_current_folder_importable()
    try:
        return importlib.import_module(path)
    except SyntaxError as error:
        raise UserError(
            f'{place}: {error.filename}, line {error.lineno}: syntax error: {error.msg}'
        ) from error
    except ModuleNotFoundError as error:
        if error.name is not None and f'{path}.'.startswith(f'{error.name}.'):
            raise UserError(_not_found(place, path, error.name)) from error
        raise UserError(
            f'{place}: {path} needs the module {error.name}, which is not installed; install it'
        ) from error
    except SystemExit as error:
        raise UserError(
            f'{place}: {path} ends Python when it is imported; put what it runs below '
            "if __name__ == '__main__'"
        ) from error


def _not_found(place: str, path: str, missing: str) -> str:
    """Return the message for a module that does not exist."""
    top = path.partition('.')[0]
    if top in TRUSTED and Path(top).is_dir() and missing != top:
        return f'{place}: {top} is a package of the suite or its libraries; rename the folder {top}'
    beside = [file.stem for file in Path.cwd().glob('*.py')]
    return (
        f'{place}: there is no module {missing} in this folder or among the installed packages'
        f'{did_you_mean(missing, beside)}'
    )


def _type_of(network: type[nn.Module], path: str, name: str) -> str:
    """Return the `type` for configs: the registered name of a library's class, else its path."""
    library = network.__module__.partition('.')[0]
    short = f'{library}.{network.__name__}' if library in ('mmdet', 'mmseg') else network.__name__
    if library in TRUSTED and any(built is network for _, built in registered(short, library)):
        return short
    return f'{path}.{name}'


def _is_network(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)
