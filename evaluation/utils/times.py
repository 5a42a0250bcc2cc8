"""Times as files and progress state them."""

from datetime import datetime, timezone


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def clock(seconds: float) -> str:
    """Minutes and seconds, `3:07`."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02}'
