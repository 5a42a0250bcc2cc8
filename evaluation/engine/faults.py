"""Stop a run with one clear line: faults of the machine, signals, and how to resume."""

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
POLL_SECONDS = 0.02
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


@contextlib.contextmanager
def stop_explained(work_dir: str, resumed_from: str | None = None) -> Iterator[None]:
    """Let what stops a training say what was kept, and turn faults of the machine into `UserError`s.

    Args:
        work_dir: of the training.
        resumed_from: checkpoint that the training went on from.

    Raises:
        Interrupted: it was asked to stop.
        UserError: it was stopped by something that the user can mend.
    """
    before = _last_written(work_dir)
    try:
        yield
    except BaseException as error:
        last = _last_written(work_dir)
        written = last[0] if last and last != before else None
        if is_interruption(error):
            raise Interrupted(advice(written, resumed_from)) from None
        fault = machine_fault(error, work_dir)
        if fault is None and not (written and isinstance(error, UserError)):
            raise
        raise UserError(f'{fault or error}; {advice(written, resumed_from)}') from error


def advice(written: Path | None, resumed_from: str | None) -> str:
    """How to go on with a training that was stopped.

    Args:
        written: its last checkpoint; None if it wrote none.
        resumed_from: checkpoint that it went on from.
    """
    if written:
        return f'the last checkpoint is {written}; to go on, repeat the command with --resume'
    if resumed_from:
        return f'no checkpoint was written since {resumed_from}; to go on from there, repeat the command'
    return 'no checkpoint was written yet; repeat the command to start anew'


def _last_written(work_dir: str) -> tuple[Path, int] | None:
    """The last checkpoint, and when it was written (ns): one of the same name may have replaced it."""
    try:
        file = last_checkpoint(work_dir)
        return file and (file, file.stat().st_mtime_ns)
    except OSError:
        return None


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
            return _ended_worker(process, is_shared_memory_full=False)
        error = error.__cause__ or error.__context__
    return None


def _ended_worker(processes: str, is_shared_memory_full: bool) -> str:
    short = '/dev/shm is full: enlarge it, or' if is_shared_memory_full else 'memory is short:'
    return (
        f'a process that loads data ({processes}) was ended, as where {short} '
        'lower num_workers of train_dataloader and val_dataloader'
    )


def _killed_child() -> str | None:
    """Process id of a child that a signal ended, now or within moments; None if there is none."""
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
        # torch's handler of SIGCHLD raises this wherever the main thread is, mostly in the sleep.
        match = WORKER.search(str(error))
        if match is None:
            raise
        return match['pids']
    return killed


def _is_below(file: object, folder: str) -> bool:
    return isinstance(file, str) and Path(folder).absolute() in Path(file).absolute().parents
