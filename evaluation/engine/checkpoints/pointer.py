"""The file `last_checkpoint` of a work dir: mmengine names in it the checkpoint that it wrote last."""

import os
from pathlib import Path

from evaluation.utils.processes.restarts import LAUNCHED, restart_count


def pointer_of(work_dir: str | Path) -> Path:
    """The file itself, which may be missing."""
    return Path(work_dir, 'last_checkpoint')


def named_checkpoint(work_dir: str | Path) -> str | None:
    """What the file says; '' if a crash left it empty or garbled, None if there is none."""
    try:
        return pointer_of(work_dir).read_text().replace('\0', '').strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ''


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint that was written last; None if there is none, or it is gone.

    In a work dir that was moved or copied it is the one that went along.
    """
    named = named_checkpoint(work_dir)
    places = [Path(work_dir, Path(named).name), Path(named)] if named else []
    return next((place for place in places if place.is_file()), None)


def resumed_by_restart(work_dir: str) -> str | None:
    """`latest` where a restarted training goes on from the last checkpoint that it wrote.

    None if this is the first start, or none was written since: one that lies in the work dir from
    another training is left alone, and the command line says again where to start.
    """
    pointer = pointer_of(work_dir)
    if restart_count() == 0 or not pointer.is_file():
        return None
    return 'latest' if pointer.stat().st_mtime_ns >= int(os.environ.get(LAUNCHED, 0)) else None
