"""How a command ends on Ctrl-C (SIGINT) and SIGTERM: soon, without a traceback, with advice."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """An interruption whose message says what was kept and how to go on."""


@dataclass
class Received:
    """The signal that asked this process to stop; None as long as none did."""

    signal: int | None = None


@contextlib.contextmanager
def stopping_signals() -> Iterator[Received]:
    """Raise `KeyboardInterrupt` at SIGINT and SIGTERM; a second one ends the process at once.

    Data workers, which inherit this, end silently: they get the same signal, or their parent's end.
    A signal that is ignored on entry (a job in the background) stays ignored.
    """
    process, received = os.getpid(), Received()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)
        received.signal = number
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL)
        # The end of a data worker is now no error, which the loader's own handler would raise.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in STOPPING}
    caught = [each for each in STOPPING if before[each] != signal.SIG_IGN]
    for each in caught:
        signal.signal(each, stop)
    try:
        yield received
    finally:
        if received.signal is None:
            for each in caught:
                signal.signal(each, before[each])


@contextlib.contextmanager
def interruption_named(work_dir: str, resumed_from: str | None = None) -> Iterator[None]:
    """Let an interruption of a training say which checkpoint is the last, and how to go on.

    Args:
        work_dir: of the training.
        resumed_from: checkpoint that the training went on from.

    Raises:
        Interrupted: the training was interrupted.
    """
    before = last_checkpoint(work_dir)
    try:
        yield
    except BaseException as error:
        if not _is_interruption(error):
            raise
        last = last_checkpoint(work_dir)
        raise Interrupted(advice(last if last != before else None, resumed_from)) from None


def advice(written: tuple[str, int] | None, resumed_from: str | None) -> str:
    """How to go on with a training that was stopped.

    Args:
        written: its last checkpoint, as `last_checkpoint` returns it; None if it wrote none.
        resumed_from: checkpoint that it went on from.
    """
    if written:
        return f'the last checkpoint is {written[0]}; to go on, repeat the command with --resume'
    if resumed_from:
        return f'no checkpoint was written since {resumed_from}; to go on from there, repeat the command'
    return 'no checkpoint was written yet; repeat the command to start anew'


def last_checkpoint(work_dir: str) -> tuple[str, int] | None:
    """The checkpoint that the file `last_checkpoint` names, and when it was written (ns)."""
    try:
        file = Path(work_dir, 'last_checkpoint').read_text().strip()
        return file, Path(file).stat().st_mtime_ns
    except (OSError, ValueError):
        return None


def _is_interruption(error: BaseException | None) -> bool:
    """Whether `error` is, or came while handling, a `KeyboardInterrupt`."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
