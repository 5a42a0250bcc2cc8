"""Progress reports with an estimate of the remaining time."""

import time
from collections.abc import Callable

from evaluation.utils.formats import clock

REPORT_SECONDS = 10.0


class Progress:
    """Reports from time to time how many parts are done and how long the rest will take.

    Args:
        name: start of each line.
        total: number of parts.
        say: function that prints a line.
    """

    def __init__(self, name: str, total: int, say: Callable[[str], None]) -> None:
        self.name, self.total, self.say = name, total, say
        self.done = 0
        self.started = self.reported = time.monotonic()

    def advance(self) -> None:
        """Count one more finished part."""
        self.done += 1
        now = time.monotonic()
        if now - self.reported < REPORT_SECONDS and self.done < self.total:
            return
        self.reported = now
        left = clock((now - self.started) / self.done * (self.total - self.done))
        self.say(f'{self.name}: {self.done} of {self.total}, about {left} left')
