"""Replacement of a config's data root: `--data-root`."""

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from evaluation.config.settings import LOADERS
from evaluation.data.dataset_config import plain_datasets
from evaluation.utils.errors import UserError

# Settings with the location of a data set. mmengine joins relative paths to `data_root`.
PATHS = ('ann_file', 'data_prefix')
PLACE = ('data_root', *PATHS)
# Files and folders that evaluators read. They are not joined to a data root.
EVALUATOR_PATHS = ('ann_file', 'seg_prefix')
REMEDY = 'omit --data-root and set the paths of each data set in the config'


@dataclass(frozen=True)
class Roots:
    """Data roots to replace, and the new one.

    Attributes:
        old: non-empty paths to replace, most specific first.
        new: path of the new data root.
    """

    old: tuple[str, ...]
    new: str

    def moved(self, path: str) -> str | None:
        """Return the path below the new root; None for a path outside all roots."""
        for form in (os.path.abspath, os.path.realpath):
            for root in self.old:
                inside = _inside(path, root, form)
                if inside is not None:
                    return _join(self.new, inside, path)
            # With --cfg-options, users can name a file that is already below the new root.
            if _inside(path, self.new, form) is not None:
                return path
        return None

    def moved_text(self, text: str) -> str:
        """Replace an old root at the start of a text; a word without a slash could be a split."""
        for root in self.old:
            if '/' in text and f'{text}/'.startswith(f'{root}/'):
                return _join(self.new, text[len(root) :].lstrip('/'), text)
        return text


def set_data_root(cfg: Config, root: str, loaders: Sequence[str] = LOADERS) -> list[str]:
    """Replace the data root of every data set and of the files that evaluators read.

    A data set whose `data_root` is below the config's keeps its relative path below the new root. Any
    other `data_root` of a data set is replaced entirely.

    Args:
        cfg: config, changed in place.
        root: new data root; `~` is expanded.
        loaders: names of the data loaders that will be used. Data sets of other loaders stay unchanged
            if they cannot be moved.

    Returns:
        Warnings about data sets whose `data_root` is outside the config's.

    Raises:
        UserError: a path of a data set or an evaluator is outside all data roots, or two different data
            sets would become the same.
    """
    root = _trimmed(os.path.expanduser(root))
    top = _trimmed(cfg.get('data_root'))
    before = _places(cfg, loaders)
    warnings = _own_roots(cfg, loaders, top, root)
    for name in LOADERS:
        if cfg.get(name) is None:
            continue
        try:
            _move_loader(cfg, name, top, root)
        except UserError:
            if name in loaders:
                raise
    _check_distinct(before, _places(cfg, loaders), root)
    if cfg.get('tta_pipeline') is not None:
        cfg.tta_pipeline = _move_texts(cfg.tta_pipeline, _roots([top], root))
    cfg.data_root = root
    return warnings


def unused_data_root(cfg: Config, loaders: Sequence[str]) -> str | None:
    """Return the config's `data_root` if no data set of the loaders uses it, else None.

    Setting only `data_root` in a leaf does not move the data sets of the page that it imports.
    """
    top = _trimmed(cfg.get('data_root'))
    used = [
        path for _, part in _used_parts(cfg, loaders) for path in (part.get('data_root'), *_paths(part))
    ]
    texts = [path for path in used if isinstance(path, str) and path]
    is_used = top is None or any(_inside(path, top) is not None for path in texts)
    return None if is_used or not texts else top


def config_data_root(cfg: Config) -> str | None:
    """Return the `data_root` of a config, or else of its first data set that has one."""
    loaders = [cfg[name] for name in LOADERS if cfg.get(name) is not None]
    own = [part.get('data_root') for loader in loaders for part in plain_datasets(loader.dataset)]
    return next(filter(None, map(_trimmed, [cfg.get('data_root'), *own])), None)


def _move_loader(cfg: Config, name: str, top: str | None, new: str) -> None:
    """Move the data sets of a loader and its evaluator.

    Raises:
        UserError: a path is outside all data roots.
    """
    # Copy, because two loaders of a config can be the same object, which must not be moved twice.
    loader = copy.deepcopy(cfg[name])
    every = [top]
    for part in plain_datasets(loader.dataset):
        roots = _roots_of(part, top)
        every += roots
        _move_dataset(part, f'{name}.dataset', top, _roots(roots, new))
    roots = _roots(every, new)
    evaluator_name = name.replace('_dataloader', '_evaluator')
    evaluator = _move_evaluator(copy.deepcopy(cfg.get(evaluator_name)), evaluator_name, roots)
    cfg[name] = _move_texts(loader, roots)
    if evaluator is not None:
        cfg[evaluator_name] = evaluator


def _move_dataset(dataset: ConfigDict, place: str, top: str | None, roots: Roots) -> None:
    """Move one data set, in place."""
    if not any(dataset.get(name) for name in PLACE) and _move_texts(dataset, roots) == dataset:
        raise UserError(
            f'--data-root has no effect on {place} ({dataset.get("type")}), which has no '
            f'{", ".join(PLACE[:-1])} or {PLACE[-1]}; {REMEDY}'
        )
    own = _trimmed(dataset.get('data_root'))
    for name in PATHS:
        value = dataset.get(name)
        if isinstance(value, dict):
            moved = {
                key: _move_path(path, f'{place}.{name}.{key}', own, roots) for key, path in value.items()
            }
            dataset[name] = ConfigDict(moved)
        elif value is not None:
            dataset[name] = _move_path(value, f'{place}.{name}', own, roots)
    if own is None:
        return
    inside = _inside(own, top) if top else None
    dataset.data_root = _join(roots.new, inside or '', dataset.data_root)


def _move_path(path: Any, place: str, own: str | None, roots: Roots) -> Any:
    """Move a path of a data set or evaluator.

    Args:
        path: path, or a list of paths; an empty path stays.
        place: config key of the path, for messages.
        own: data root that the library joins to a relative path, if any.
        roots: old and new data roots.
    """
    if isinstance(path, (list, tuple)):
        return type(path)(_move_path(entry, place, own, roots) for entry in path)
    if not isinstance(path, str) or not path or (own and not os.path.isabs(path)):
        return path
    moved = roots.moved(path)
    if moved is None:
        known = f'outside {", ".join(roots.old)}, which' if roots.old else 'not in a data root that'
        raise UserError(f'{place} is {path}, {known} --data-root replaces; {REMEDY}')
    return moved


def _move_evaluator(value: Any, place: str, roots: Roots) -> Any:
    """Move the files of an evaluator, at any depth."""
    if isinstance(value, dict):
        for name, entry in value.items():
            below = f'{place}.{name}'
            is_path = name in EVALUATOR_PATHS
            value[name] = (
                _move_path(entry, below, None, roots)
                if is_path
                else _move_evaluator(entry, below, roots)
            )
        return value
    if isinstance(value, (list, tuple)):
        return type(value)(_move_evaluator(v, f'{place}.{i}', roots) for i, v in enumerate(value))
    return _move_texts(value, roots)


def _move_texts(value: Any, roots: Roots) -> Any:
    """Replace old roots at the start of strings, at any depth, unless `_move_dataset` did so."""
    if isinstance(value, dict):
        return type(value)({k: v if k in PLACE else _move_texts(v, roots) for k, v in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(_move_texts(v, roots) for v in value)
    return roots.moved_text(value) if isinstance(value, str) else value


def _roots_of(dataset: ConfigDict, top: str | None) -> list[str | None]:
    """Return the folders that the new root replaces in a data set."""
    own = _trimmed(dataset.get('data_root'))
    # The relative path below the config's root is kept.
    covered = own and top and _inside(own, top) is not None
    roots = [None if covered else own, top]
    return [*roots, _common_folder(dataset, roots)]


def _common_folder(dataset: ConfigDict, roots: Sequence[str | None]) -> str | None:
    """Return the common folder of the paths of a data set that are in no known root.

    At least two paths are needed: the folder of a single file is not necessarily a data root.
    """
    known = _roots(roots, '')
    paths = [
        path for path in _paths(dataset) if not (dataset.get('data_root') and not os.path.isabs(path))
    ]
    stray = {_trimmed(path) for path in paths if all(_inside(path, root) is None for root in known.old)}
    if len(stray) < 2 or len({os.path.isabs(path) for path in stray}) > 1:
        return None
    common = os.path.commonpath(stray)
    return common if common.strip('/') else None


def _paths(dataset: ConfigDict) -> Iterator[str]:
    for name in PATHS:
        value = dataset.get(name)
        values = (
            value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        )
        yield from (path for path in values if isinstance(path, str) and path)


def _used_parts(cfg: Config, loaders: Sequence[str]) -> Iterator[tuple[str, ConfigDict]]:
    """Yield every data set of the given loaders, with the loader's name."""
    for name in LOADERS:
        if name in loaders and cfg.get(name) is not None:
            yield from ((name, part) for part in plain_datasets(cfg[name].dataset))


def _own_roots(cfg: Config, loaders: Sequence[str], top: str | None, new: str) -> list[str]:
    """Return warnings about data sets whose data root is outside the config's."""
    own = {
        f'--data-root {new} also replaces {name}.dataset.data_root={root}'
        for name, part in _used_parts(cfg, loaders)
        if top and (root := _trimmed(part.get('data_root'))) and _inside(root, top) is None
    }
    return sorted(own)


def _places(cfg: Config, loaders: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """List the data sets: names of their loaders, and the full paths that identify them."""
    found = []
    for name, part in _used_parts(cfg, loaders):
        root = part.get('data_root') or ''
        paths = [os.path.abspath(os.path.join(root, path)) for path in _paths(part)]
        found.append((name, (os.path.abspath(root), *paths, str(part.get('split')))))
    return found


def _check_distinct(before: list[tuple], after: list[tuple], root: str) -> None:
    """Check that joined data sets, and training and evaluation data sets, are still different.

    Raises:
        UserError: two different data sets have become the same.
    """
    pairs = itertools.combinations(zip(before, after, strict=True), 2)
    for ((one, old), (_, new)), ((other, other_old), (_, other_new)) in pairs:
        may_be_equal = one != other and 'train_dataloader' not in (one, other)
        if new == other_new and old != other_old and not may_be_equal:
            where = one if one == other else f'{one} and {other}'
            raise UserError(
                f'--data-root {root} would make two data sets of {where} the same '
                f'({old[0]} and {other_old[0]}); {REMEDY}'
            )


def _roots(old: Sequence[str | None], new: str) -> Roots:
    """Sort old roots, the most specific one first."""
    known = dict.fromkeys(root for root in map(_trimmed, old) if root)
    return Roots(tuple(sorted(known, key=lambda root: -len(os.path.abspath(root)))), new)


def _trimmed(path: Any) -> str | None:
    """Return a path without trailing slashes; None for an empty one."""
    return (path.rstrip('/') or '/') if isinstance(path, str) and path else None


def _inside(path: str, root: str, form: Callable[[str], str] = os.path.abspath) -> str | None:
    """Return the path relative to a root: empty for the root itself, None for a path outside it."""
    whole, folder = (form(os.path.expanduser(each)) for each in (path, root))
    relative = os.path.relpath(whole, folder)
    is_outside = relative == '..' or relative.startswith('../')
    return None if is_outside else '' if relative == '.' else relative


def _join(root: str, inside: str, original: str) -> str:
    """Join paths, with a trailing slash if the original path has one."""
    return os.path.join(root, inside).rstrip('/') + '/' * original.endswith('/')


def data_root_of(cfg: Config, wish: str | None) -> str | None:
    """Return the data root of a config: `wish`, or the folder in it named like the config's data root.

    For `data/ade/ADEChallengeData2016` in `/datasets`, that is `ade/ADEChallengeData2016` or
    `ADEChallengeData2016`.
    """
    if wish is None:
        return None
    wish = os.path.expanduser(wish)
    parts = Path(config_data_root(cfg) or '').parts
    inside = [Path(wish, *parts[start:]) for start in range(1, len(parts))]
    return str(next((folder for folder in inside if folder.is_dir()), wish))
