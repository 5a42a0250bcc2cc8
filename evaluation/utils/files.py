"""Read files, and write them atomically."""

import errno
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluation.utils.errors import UserError


def user_path(text: str) -> Path:
    """Return a path from the command line; shells do not expand the `~` of `--option=~/folder`."""
    return Path(os.path.expanduser(text))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file through a temporary one beside it, and create missing folders.

    After a power failure `path` holds either its old content or all of `content`.
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
    """Rename a finished file; sync its content to disk before, and its new name after."""
    _to_disk(unfinished)
    os.replace(unfinished, path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Sync a file, or the names in a folder, to disk, so that it survives a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces `path` if no exception is raised; create missing parents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{path.name}-', dir=path.parent) as beside:
        # Not the temporary folder itself, which only its owner can read.
        finished = Path(beside, 'finished')
        finished.mkdir()
        yield finished
        if path.exists():
            path.rename(Path(beside, 'replaced'))
        finished.rename(path)


def check_output(path: Path) -> None:
    """Check that an output file can be written, before any work is done for it.

    Raises:
        UserError: the path is a folder or a device, or its folder is missing or not writable.
    """
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir():
        raise UserError(f'{path}: cannot be written; give a file in an existing folder')
    # Renaming would replace it with a file.
    if path.exists() and not path.is_file():
        raise UserError(f'{path}: not a regular file; give the path of a file')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f'{path}: cannot be written; give a file in a writable folder')


def replace_between(page: Path, start: str, end: str, text: str | None) -> None:
    """Replace the part of a page between two lines.

    Args:
        page: file of the documentation.
        start, end: the lines, which are kept.
        text: new lines between them; None to check the page only.

    Raises:
        UserError: the page cannot be read or written, or has no such lines.
    """
    try:
        content = page.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{page} cannot be read: {error}') from error
    before, found_start, rest = content.partition(start)
    _, found_end, after = rest.partition(end)
    if not (found_start and found_end):
        raise UserError(f'{page} has no {start} and {end}; add these two lines where the tables belong')
    check_output(page)
    if text is not None:
        write_output(page, f'{before}{start}\n{text}{end}{after}'.encode())


def write_output(path: Path, content: bytes) -> None:
    """Write an output file whose path the user gave.

    Raises:
        UserError: the file cannot be written.
    """
    check_output(path)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise UserError(
            f'{path}: cannot be written ({error.strerror}); give a file in a writable folder'
        ) from error


def read_text(path: Path) -> str:
    """Return the text of a regular file, as UTF-8. Pipes and devices might never end, so refuse them.

    Raises:
        OSError: the file is missing, cannot be read, or is not a regular file.
        UnicodeDecodeError: the file is not UTF-8.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, 'not a file')
    return path.read_text(encoding='utf-8')


def json_text(content: dict) -> str:
    """Return indented JSON; raise `ValueError` for NaN, which JSON does not have."""
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
