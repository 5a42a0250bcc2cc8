"""How a command ends on Ctrl-C (SIGINT) and SIGTERM: soon, without a traceback, with advice."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from evaluation.utils.process_groups import speaks_first

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """An interruption whose message says what was kept and how to go on."""


@dataclass
class Received:
    """The signal that asked this process to stop; None as long as none did."""

    signal: int | None = None


@contextlib.contextmanager
def stopping_signals(script: str | None = None) -> Iterator[Received]:
    """Raise `KeyboardInterrupt` at SIGINT and SIGTERM; a second one ends the process at once.

    Data workers, which inherit this, end silently: they get the same signal, or their parent's end.
    A signal that is ignored on entry (a job in the background) stays ignored.

    Args:
        script: file of a command. While it imports what it needs, nothing was begun, and the process
            ends at once with a line that says so: an exception that passes through the initialisation
            of a library in C++ may be lost there, or abort it.
    """
    process, received = os.getpid(), Received()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)
        if script is not None and importing_file(frame) == script:
            if speaks_first():
                os.write(2, b'interrupted\n')
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


def importing_file(frame: FrameType | None) -> str | None:
    """The file whose import is at work in a frame, the outermost of nested ones; None if none is."""
    file = None
    while frame is not None:
        caller = frame.f_back
        if caller is not None and _is_of_importlib(frame) and not _is_of_importlib(caller):
            file = caller.f_code.co_filename
        frame = caller
    return file


def _is_of_importlib(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith('<frozen importlib')


def is_interruption(error: BaseException | None) -> bool:
    """Whether `error` is, or came while handling, a `KeyboardInterrupt`."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
