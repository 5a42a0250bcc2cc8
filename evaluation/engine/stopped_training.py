"""What a training says when a signal, the machine, the data or the numbers stop it, and how to go on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from evaluation.engine.checkpoints.pointer import last_checkpoint
from evaluation.engine.machine_faults import machine_fault
from evaluation.utils.errors import UserError
from evaluation.utils.interruption import Interrupted, is_interruption


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
