"""Signals while jobs are started: none must come between a start and the note of it."""

import contextlib
import signal
from collections.abc import Iterator

from evaluation.utils.interruption import STOPPING

# What a terminal sends to all that was started from it.
OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def interruptions_deferred() -> Iterator[None]:
    """Let a signal that asks to stop wait until the end of this block."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}
    caught = [number for number, handler in before.items() if callable(handler)]
    for number in caught:
        signal.signal(number, lambda received_number, _: received.append(received_number))
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])
    if received:
        signal.raise_signal(received[0])


@contextlib.contextmanager
def children_detached() -> Iterator[None]:
    """Start processes that do not heed what the terminal sends: Ctrl-C, and its end."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in OF_THE_TERMINAL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
