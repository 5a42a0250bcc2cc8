"""How a command ends on Ctrl-C (SIGINT) and SIGTERM: soon, without a traceback, with advice."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
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


def is_interruption(error: BaseException | None) -> bool:
    """Whether `error` is, or came while handling, a `KeyboardInterrupt`."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False
