"""Writing files so that a reader never sees half of one."""

import errno
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path

from evaluation.utils.errors import UserError


def user_path(text: str) -> Path:
    """Return a path of the command line; a shell leaves the `~` of `--option=~/folder` as it is."""
    return Path(os.path.expanduser(text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then rename it there; missing folders are made.

    After a power failure `path` holds either what it held before or all of `content`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
    try:
        with open(handle, 'wb') as file:
            file.write(content)
        Path(name).chmod(0o644)
        rename_whole(Path(name), path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = str(path)
        Path(name).unlink(missing_ok=True)
        raise


def rename_whole(unfinished: Path, path: Path) -> None:
    """Give a file that is written its name, once its content and then its name are on the disk."""
    _to_disk(unfinished)
    os.replace(unfinished, path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems have no such call for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def check_output(path: Path) -> None:
    """Look whether a file that the user named can be written, before work is done for it.

    Raises:
        UserError: it is a folder or a device, or its folder is missing or not writable.
    """
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir():
        raise UserError(f'{path}: cannot be written; give a file in an existing folder')
    # A file would take its place.
    if path.exists() and not path.is_file():
        raise UserError(f'{path}: is a device or a pipe; give a file')
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


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
