"""Configs and backbones of a sweep, each pair with a name of its own."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.config.config_files import read_config
from evaluation.config.contestants import file_name, find_backbone, named_after, task_of_config
from evaluation.utils.errors import UserError


@dataclass(frozen=True)
class Entry:
    """A config, possibly with a different backbone.

    Attributes:
        config: path of the config file.
        name: name of the config with its backbone.
        backbone: name of the backbone; None for that of the config.
    """

    config: Path
    name: str
    backbone: str | None = None


def find_entries(configs: Sequence[Path], backbones: Sequence[str]) -> list[Entry]:
    """Return every config with every backbone.

    Args:
        configs: paths of the configs.
        backbones: names of backbones; none for those of the configs.

    Raises:
        UserError: a backbone fits no config, or two entries have the same name and would share a work
            dir.
    """
    if not backbones:
        return [Entry(config, config.stem) for config in configs]
    found: dict[str, Entry] = {}
    for backbone in backbones:
        named = [_named_entry(config, backbone) for config in configs]
        if all(isinstance(each, UserError) for each in named):
            raise named[0]
        for config, each in zip(configs, named, strict=True):
            # A backbone that does not fit this config is refused later, without ending the sweep.
            name = f'{config.stem}_{file_name(backbone)}' if isinstance(each, UserError) else each
            other = found.setdefault(name, entry := Entry(config, name, backbone))
            if other is not entry:
                raise UserError(
                    f'{config} with {backbone} and {other.config} with {other.backbone} are both named '
                    f'{name} and would share a work dir; give each pair of recipe and backbone once, or '
                    'rename a class'
                )
    return list(found.values())


def _named_entry(config: Path, backbone: str) -> str | UserError:
    """Return the name of a config with a backbone, or the error that it causes."""
    try:
        cfg = read_config(str(config))
        return named_after(cfg, find_backbone(backbone, task_of_config(cfg)).contestant['name'])
    except UserError as error:
        return error


def find_configs(patterns: Sequence[str]) -> list[Path]:
    """Return the configs that match any of the patterns, sorted by name.

    Raises:
        UserError: a pattern matches no config, or two configs with the same name would share a work dir.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        files = [Path(file) for file in sorted(glob.glob(pattern, recursive=True))]
        files = [file for file in files if file.suffix == '.py' and file.is_file()]
        if not files:
            raise UserError(
                f"no config matches {pattern}; give a pattern such as 'configs/mask_rcnn_*_tiny.py'"
            )
        for file in files:
            found.setdefault(file.resolve(), file)
    by_name: dict[str, Path] = {}
    for file in found.values():
        other = by_name.setdefault(file.stem, file)
        if other is not file:
            raise UserError(
                f'{other} and {file} have the same name and would share a work dir; '
                'run one sweep for each, with different --work-dir'
            )
    return sorted(found.values(), key=lambda file: (file.stem, str(file)))
