"""Processes of this machine: when one started, and the end of all that came of this one (Linux)."""

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path

# Of prctl(2).
SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.02


def process_started(pid: int) -> int | None:
    """When a process of this machine started, in ticks; None where there is none, or it has ended."""
    stat = _stat(pid)
    return None if stat is None or stat[0] == 'Z' else int(stat[19])


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends.

    Raises:
        OSError: the system cannot do this.
    """
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def end_descendants() -> None:
    """Kill what this process has started, and what that has, and wait until all of it has ended.

    Those whose own parents have ended are among them only after `adopt_orphans`.
    """
    while left := _descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(POLL_SECONDS)


def _descendants(ancestor: int) -> set[int]:
    stats = {pid: _stat(pid) for pid in (int(folder.name) for folder in Path('/proc').glob('[0-9]*'))}
    parents = {pid: int(stat[1]) for pid, stat in stats.items() if stat is not None}
    found, newest = set(), {ancestor}
    while newest:
        newest = {pid for pid, parent in parents.items() if parent in newest}
        found |= newest
    return found


def _stat(pid: int) -> list[str] | None:
    """Fields 3 and following of `/proc/PID/stat`: state, parent, ..., start; None if it has gone.

    Field 2, the name, may hold spaces and brackets.
    """
    try:
        text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return None
    return text.rpartition(')')[2].split()
