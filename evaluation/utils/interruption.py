"""End a command promptly on Ctrl-C (SIGINT) and SIGTERM, with advice instead of a traceback."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from evaluation.utils.process_groups import speaks_first

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """An interruption. The message says what was saved and how to resume."""


@dataclass
class Received:
    """The signal that asked this process to stop; None if none did yet."""

    signal: int | None = None


@contextlib.contextmanager
def stopping_signals(script: str | None = None) -> Iterator[Received]:
    """Raise `KeyboardInterrupt` on SIGINT and SIGTERM; a second signal ends the process at once.

    Data workers inherit the handler and exit silently. A signal that is ignored on entry (as in a
    background job) stays ignored.

    Args:
        script: file of a command. During its imports no work has started, so the process prints
            `interrupted` and exits at once: an exception raised while a C++ library initializes might
            get lost or abort the process.
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
        # From now on the end of a data worker is not an error; the loader's handler would raise one.
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
    """Return the file with the import statement that a frame runs in, outermost first; None if none."""
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
    """Return whether `error` is a `KeyboardInterrupt` or was raised while one was handled."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
