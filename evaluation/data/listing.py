"""Names of files: what lies in a folder, and names that lead out of it."""

import os
from pathlib import Path


def files_below(folder: Path) -> set[str]:
    """Names of all files at any depth, relative to `folder`."""
    return {
        name if parent == str(folder) else os.path.join(os.path.relpath(parent, folder), name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


def visible_files_below(folder: Path) -> set[str]:
    """The same without those whose names start with a dot, such as the `._x.png` of other systems.

    What is in a folder is found so, by mmengine as well; what a file names is there or not.
    """
    return {name for name in files_below(folder) if not os.path.basename(name).startswith('.')}


def leads_out(name: str) -> bool:
    """Whether a name leads out of the folder that it is relative to."""
    return os.path.isabs(name) or os.path.normpath(name).split(os.sep, 1)[0] == os.pardir
