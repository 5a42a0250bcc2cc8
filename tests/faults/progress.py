"""How far a long work is, and when it will be done."""

import time
from collections.abc import Callable

from evaluation.utils.formats import clock

REPORT_SECONDS = 10.0


class Progress:
    """Says now and then how many parts of a work are done and how long the rest will take.

    Args:
        name: what the lines begin with.
        total: number of parts.
        say: prints a line.
    """

    def __init__(self, name: str, total: int, say: Callable[[str], None]) -> None:
        self.name, self.total, self.say = name, total, say
        self.done = 0
        self.started = self.reported = time.monotonic()

    def advance(self) -> None:
        """One part more is done."""
        self.done += 1
        now = time.monotonic()
        if now - self.reported < REPORT_SECONDS and self.done < self.total:
            return
        self.reported = now
        left = clock((now - self.started) / self.done * (self.total - self.done))
        self.say(f'{self.name}: {self.done} of {self.total}, about {left} left')
