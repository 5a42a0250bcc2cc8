"""How far a long work is, and when it will be done."""

import time
from collections.abc import Callable

from evaluation.jobs import clock


class Progress:
    """Says after each part of a work how many are done and how long the rest will take.

    Args:
        name: what the lines begin with.
        total: number of parts.
        say: prints a line.
    """

    def __init__(self, name: str, total: int, say: Callable[[str], None]) -> None:
        self.name, self.total, self.say = name, total, say
        self.done = 0
        self.started = time.monotonic()

    def advance(self) -> None:
        """One part more is done."""
        self.done += 1
        elapsed = time.monotonic() - self.started
        left = clock(elapsed / self.done * (self.total - self.done))
        self.say(f'{self.name}: {self.done} of {self.total}, about {left} left')
