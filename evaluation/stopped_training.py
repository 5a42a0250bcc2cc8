"""What a training says when the machine, the data or the numbers stop it, and how to go on."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from evaluation.errors import UserError
from evaluation.interruption import advice, last_checkpoint

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
# What torch says of a process that loads data.
WORKER = re.compile(r'DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\)')


@contextlib.contextmanager
def stop_explained(work_dir: str, resumed_from: str | None = None) -> Iterator[None]:
    """Let what stops a training say what was kept, and turn faults of the machine into `UserError`s.

    Args:
        work_dir: of the training.
        resumed_from: checkpoint that the training went on from.

    Raises:
        UserError: it was stopped by something that the user can mend.
    """
    before = last_checkpoint(work_dir)
    try:
        yield
    except Exception as error:
        fault = machine_fault(error, work_dir)
        if fault is None and not isinstance(error, UserError):
            raise
        last = last_checkpoint(work_dir)
        written = last if last != before else None
        if fault is None and written is None:
            raise
        raise UserError(f'{fault or error}; {advice(written, resumed_from)}') from error


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
            short = (
                '/dev/shm is full: enlarge it, or' if 'Bus error' in str(error) else 'memory is short:'
            )
            return (
                f'a process that loads data ({match["pids"]}) was ended, as where {short} '
                'lower num_workers of train_dataloader and val_dataloader'
            )
        error = error.__cause__ or error.__context__
    return None


def _is_below(file: object, folder: str) -> bool:
    return isinstance(file, str) and Path(folder).absolute() in Path(file).absolute().parents
