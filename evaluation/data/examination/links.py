"""A data root of links: what is good of another one, without a copy of any image."""

import os
from collections.abc import Iterable
from pathlib import Path

from evaluation.errors import UserError


def new_root(folder: Path, source: Path) -> None:
    """Make the folder for a data root.

    Raises:
        UserError: something is there already, it lies inside of `source`, or it cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'--fix {folder} is there already; give a new folder, nothing is overwritten')
    if folder.resolve().is_relative_to(source.resolve()):
        raise UserError(f'--fix {folder} is inside of the data root; give a folder elsewhere')
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'--fix {folder} cannot be made ({error.strerror})') from error


def link(source: Path, place: Path) -> None:
    """Link `place`, whose folders are made, to the file or folder `source`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source.resolve(), place)


def link_files(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Link files by their names relative to `source` into `folder`."""
    for name in names:
        link(source / name, folder / name)
