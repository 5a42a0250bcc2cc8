"""A data root of links: what is good of another one, without a copy of any image."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from evaluation.utils.errors import UserError


def new_root(folder: Path, source: Path) -> bool:
    """Make the folder for a data root.

    Returns:
        whether it was made; else it was there, empty.

    Raises:
        UserError: something is there already, it lies inside of `source`, or it cannot be made.
    """
    if folder.is_symlink():
        raise UserError(f'--fix {folder} is a link; give a folder')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'--fix {folder} is there already; give a new folder, nothing is overwritten')
    if folder.resolve().is_relative_to(source.resolve()):
        raise UserError(f'--fix {folder} is inside of the data root; give a folder elsewhere')
    if folder.exists():
        return False
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f'--fix {folder} cannot be made ({error.strerror})') from error
    return True


def clear(folder: Path) -> None:
    """Remove all that is in a data root of links."""
    for path in folder.iterdir():
        path.unlink() if path.is_symlink() else shutil.rmtree(path)


def link(source: Path, place: Path) -> None:
    """Link `place`, whose folders are made, to the file or folder `source`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(source.resolve(), place)


def link_files(source: Path, folder: Path, names: Iterable[str]) -> None:
    """Link files by their names relative to `source` into `folder`."""
    for name in names:
        link(source / name, folder / name)
