"""Writing files so that a reader never sees half of one."""

import errno
import json
import os
import stat
import tempfile
from pathlib import Path

from evaluation.errors import UserError


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then rename it there; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with open(handle, 'wb') as file:
            file.write(content)
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_output(path: Path) -> None:
    """Look whether a file that the user named can be written, before work is done for it.

    Raises:
        UserError: it is a folder, or its folder is missing or not writable.
    """
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir():
        raise UserError(f'{path}: cannot be written; give a file in an existing folder')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f'{path}: cannot be written; give a file in a folder of yours')


def write_output(path: Path, content: bytes) -> None:
    """Write a file that the user named.

    Raises:
        UserError: it cannot be written.
    """
    check_output(path)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise UserError(
            f'{path}: cannot be written ({error.strerror}); give a file in a folder of yours'
        ) from error


def read_text(path: Path) -> str:
    """Text of a file, as UTF-8; of a pipe or a device, which might never end, nothing is read.

    Raises:
        OSError: it is not there, cannot be read, or is no file.
        UnicodeDecodeError: it is no text.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, 'not a file')
    return path.read_text(encoding='utf-8')


def json_text(content: dict) -> str:
    """Indented JSON; NaN is refused, since JSON has none."""
    return json.dumps(content, indent=1, allow_nan=False) + '\n'


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented JSON."""
    write_text(path, json_text(content))
