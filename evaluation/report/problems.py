"""What a report had to leave out, for its reader."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

from evaluation.tables.analyses import UNREADABLE
from evaluation.utils.errors import UserError, warn

# What readers of files raise where one is not what it should be.
MALFORMED = (*UNREADABLE, UserError, IndexError, BadZipFile)


class Problems:
    """Collects problems, each of which is said on stderr at once; the page lists them all."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def add(self, message: str) -> None:
        """Say something, once however often it is added."""
        message = ' '.join(message.split())
        if message not in self.messages:
            self.messages.append(message)
            warn(message)

    @contextmanager
    def leaving_out(self, file: Path) -> Iterator[None]:
        """Leave a file out, by name and reason, where it turns out to be malformed."""
        try:
            yield
        except MALFORMED as error:
            reason = str(error) if isinstance(error, UserError) else explained(error)
            self.add(f'left out: {reason if str(file) in reason else f"{file}: {reason}"}')


def explained(error: Exception) -> str:
    """A malformed file's error in words."""
    if isinstance(error, KeyError):
        return f'{error.args[0]!r} is missing' if error.args else 'something is missing'
    if isinstance(error, OSError):
        return f'cannot be read ({error.strerror or error})'
    return f'malformed ({str(error) or type(error).__name__})'
