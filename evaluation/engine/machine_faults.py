"""Faults of disks, mounts and memory, told apart from defects of the suite."""

import contextlib
import errno
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from evaluation.utils.errors import UserError

# What a disk or a mount says, whoever reads or writes there.
DISK_FAULTS = {
    errno.ENOSPC: 'make room there',
    errno.EDQUOT: 'make room there',
    errno.EFBIG: 'raise the limit on the size of files (ulimit -f)',
    errno.EROFS: 'make it writable',
    errno.EACCES: 'make it writable',
    errno.EPERM: 'make it writable',
    errno.EIO: 'see to the disk',
    errno.ESTALE: 'mount it again',
}
# What comes of one that dies while it hands a batch over.
LOST_WORKER = (EOFError, ConnectionError, FileNotFoundError)
SECONDS_TO_DIE = 1.0
# What torch says of a process that loads data.
WORKER = re.compile(r'DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\)')


@contextlib.contextmanager
def machine_faults_reported(work_dir: str) -> Iterator[None]:
    """Turn faults of the machine into `UserError`s.

    Raises:
        UserError: there was one.
    """
    try:
        yield
    except Exception as error:
        fault = machine_fault(error, work_dir)
        if fault is None:
            raise
        raise UserError(fault) from error


def machine_fault(error: BaseException | None, work_dir: str) -> str | None:
    """What is wrong with the machine, and what to do, where that is why `error` was raised.

    None where it is a `UserError`, which says itself what is wrong.
    """
    if isinstance(error, UserError):
        return None
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            where = error.filename or f'a file in {work_dir}'
            return f'{where}: {os.strerror(error.errno)}; {DISK_FAULTS[error.errno]}'
        if isinstance(error, FileNotFoundError) and _is_below(error.filename, work_dir):
            return f'{error.filename}: its folder has gone; mount or restore {work_dir}'
        if isinstance(error, RuntimeError) and (match := WORKER.search(str(error))):
            return _ended_worker(match['pids'], is_shared_memory_full='Bus error' in str(error))
        if isinstance(error, LOST_WORKER) and (process := _killed_child()):
            return _ended_worker(str(process), is_shared_memory_full=False)
        error = error.__cause__ or error.__context__
    return None


def _ended_worker(processes: str, is_shared_memory_full: bool) -> str:
    short = '/dev/shm is full: enlarge it, or' if is_shared_memory_full else 'memory is short:'
    return (
        f'a process that loads data ({processes}) was ended, as where {short} '
        'lower num_workers of train_dataloader and val_dataloader'
    )


def _killed_child() -> int | None:
    """Process id of a child that a signal ended, now or within moments; None if there is none."""
    # Torch reports it as well, by an exception at any place.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    end = time.monotonic() + SECONDS_TO_DIE
    while time.monotonic() < end:
        try:
            child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if child is not None and child.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
            return child.si_pid
        time.sleep(0.02)
    return None


def _is_below(file: object, folder: str) -> bool:
    return isinstance(file, str) and Path(folder).absolute() in Path(file).absolute().parents
