"""Locks that end with the processes that hold them, however these end."""

import errno
import fcntl
import os
import time
from pathlib import Path

from evaluation.utils.errors import UserError

POLL_SECONDS = 0.05
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Lock:
    """A lock on a file, for one holder at a time.

    It belongs to the open file: a child process that is given `descriptor` holds it too, until it ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def acquire(self, seconds: float = 0.0) -> bool:
        """Take the lock; False where somebody else still holds it after so long.

        Raises:
            UserError: the file system has no locks.
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + seconds
        while not _try(descriptor, self.path, fcntl.LOCK_EX):
            if time.monotonic() >= end:
                os.close(descriptor)
                return False
            time.sleep(POLL_SECONDS)
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Let go of it; children that were given it hold it on."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def __exit__(self, *_: object) -> None:
        self.release()

    def __enter__(self) -> 'Lock':
        return self


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock on a file; nothing is written.

    It is shared for a moment to find out, with others who look, so that one who takes it must try for
    longer than that.

    Raises:
        UserError: the file system has no locks.
        OSError: the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, path, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try(descriptor: int, path: Path, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise UserError(
            f'{path.parent}: this file system has no locks (flock), without which a run could be '
            'started twice; give --work-dir on another'
        ) from error
