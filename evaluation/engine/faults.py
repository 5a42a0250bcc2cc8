"""Report machine faults and signals that stop a run in one line, with advice on how to resume."""

import contextlib
import errno
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from evaluation.engine.checkpoints import last_checkpoint
from evaluation.utils.errors import UserError
from evaluation.utils.interruption import Interrupted, is_interruption

# Faults of a disk or a mount, in reading or writing, and their remedies.
DISK_FAULTS = {
    errno.ENOSPC: 'free some space there',
    errno.EDQUOT: 'free some space there',
    errno.EFBIG: 'raise the limit on file sizes (ulimit -f)',
    errno.EROFS: 'make it writable',
    errno.EACCES: 'make it writable',
    errno.EPERM: 'make it writable',
    errno.EIO: 'check the disk',
    errno.ESTALE: 'mount it again',
}
# Errors raised when a data loading process dies while it transfers a batch.
LOST_WORKER = (EOFError, ConnectionError, FileNotFoundError)
SECONDS_TO_DIE = 1.0
POLL_SECONDS = 0.02
# PyTorch's message about a data loading process that died.
WORKER = re.compile(r'DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\)')


@contextlib.contextmanager
def machine_faults_reported(work_dir: str) -> Iterator[None]:
    """Turn faults of the machine into `UserError`s.

    Raises:
        UserError: a fault of the machine occurred.
    """
    try:
        yield
    except Exception as error:
        fault = machine_fault(error, work_dir)
        if fault is None:
            raise
        raise UserError(fault) from error


@contextlib.contextmanager
def stop_explained(work_dir: str, resumed_from: str | None = None) -> Iterator[None]:
    """Add advice on how to resume to what stops a training; turn machine faults into `UserError`s.

    Args:
        work_dir: work dir of the training.
        resumed_from: checkpoint that the training was resumed from; None if it was not resumed.

    Raises:
        Interrupted: the training was asked to stop.
        UserError: the training stopped for a reason that the user can fix.
    """
    before = _last_written(work_dir)
    try:
        yield
    except BaseException as error:
        try:
            found = _explanation(error, work_dir, before, resumed_from)
        except RuntimeError as later:
            # PyTorch's SIGCHLD handler raises this wherever the main thread is, here as well.
            if WORKER.search(str(later)) is None:
                raise
            found = _explanation(later, work_dir, before, resumed_from)
        if found is None:
            raise
        raise found from (None if isinstance(found, Interrupted) else error)


def _explanation(
    error: BaseException, work_dir: str, before: tuple[Path, int] | None, resumed_from: str | None
) -> Interrupted | UserError | None:
    """Return what to raise in place of an error; None to raise the error itself."""
    last = _last_written(work_dir)
    written = last[0] if last and last != before else None
    if is_interruption(error):
        return Interrupted(advice(written, resumed_from))
    fault = machine_fault(error, work_dir)
    if fault is None and not (written and isinstance(error, UserError)):
        return None
    return UserError(f'{fault or error}; {advice(written, resumed_from)}')


def advice(written: Path | None, resumed_from: str | None) -> str:
    """Return advice on how to resume a training that was stopped.

    Args:
        written: last checkpoint that the training wrote; None if it wrote none.
        resumed_from: checkpoint that the training was resumed from; None if it was not resumed.
    """
    if written:
        return f'the last checkpoint is {written}; to resume, run the same command with --resume'
    if resumed_from:
        return f'no checkpoint was written since {resumed_from}; to resume, run the same command again'
    return 'no checkpoint was written yet; to start over, run the same command again'


def _last_written(work_dir: str) -> tuple[Path, int] | None:
    """Return the last checkpoint and its modification time (ns), as a file may have been replaced."""
    try:
        file = last_checkpoint(work_dir)
        return file and (file, file.stat().st_mtime_ns)
    except OSError:
        return None


def machine_fault(error: BaseException | None, work_dir: str) -> str | None:
    """Return what is wrong with the machine and what to do, if that is the cause of `error`.

    None for any other cause, and for a `UserError`, which states its own cause.
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
            return f'{error.filename}: its folder is missing; mount or restore {work_dir}'
        if isinstance(error, RuntimeError) and (match := WORKER.search(str(error))):
            return _ended_worker(match['pids'], is_shared_memory_full='Bus error' in str(error))
        if isinstance(error, LOST_WORKER) and (process := _killed_child()):
            return _ended_worker(process, is_shared_memory_full=False)
        error = error.__cause__ or error.__context__
    return None


def _ended_worker(processes: str, is_shared_memory_full: bool) -> str:
    short = '/dev/shm is full; enlarge it, or' if is_shared_memory_full else 'memory ran out;'
    return (
        f'a data loading process ({processes}) was killed, possibly because {short} '
        'lower num_workers of train_dataloader and val_dataloader'
    )


def _killed_child() -> str | None:
    """Return the id of a child process killed by a signal, now or within moments; None without one."""
    end = time.monotonic() + SECONDS_TO_DIE
    killed = None
    try:
        while killed is None and time.monotonic() < end:
            child = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if child is not None and child.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
                killed = str(child.si_pid)
            time.sleep(POLL_SECONDS)
    except ChildProcessError:
        return None
    except RuntimeError as error:
        # PyTorch's SIGCHLD handler raises this wherever the main thread is, mostly in the sleep.
        match = WORKER.search(str(error))
        if match is None:
            raise
        return match['pids']
    return killed


def _is_below(file: object, folder: str) -> bool:
    return isinstance(file, str) and Path(folder).absolute() in Path(file).absolute().parents
