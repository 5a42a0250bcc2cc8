"""Find the checkpoints of a work dir, by its file `last_checkpoint` and by their names.

mmengine writes in that file the name of its last checkpoint. Importing this module does not import
PyTorch: the jobs of sweeps, which only start others, would take seconds and memory for it.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from evaluation.utils.process_groups import LAUNCHED, restart_count

# What trainings of the suite call their checkpoints.
NAMES = re.compile(r'(?:epoch|iter)_(?P<number>\d+)\.pth')


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


def candidates(work_dir: Path) -> Iterator[Path]:
    """Checkpoints of a training that are there, whole or not, the one to be preferred first."""
    file = last_checkpoint(work_dir)
    folder = file.parent if file else work_dir
    match = file and re.fullmatch(r'(?P<before>.*?)(?P<number>\d+)\.pth', file.name)
    pattern = re.compile(rf'{re.escape(match["before"])}(?P<number>\d+)\.pth') if match else NAMES
    if file:
        yield file
    numbered = {path: pattern.fullmatch(path.name) for path in folder.glob('*.pth')}
    numbers = {path: int(match['number']) for path, match in numbered.items() if match}
    for path in sorted(numbers, key=numbers.get, reverse=True):
        if file is None or (match and numbers[path] < int(match['number'])):
            yield path


def resumed_by_restart(work_dir: str) -> str | None:
    """`latest` where a restarted training goes on from the last checkpoint that it wrote.

    None if this is the first start, or none was written since: one that lies in the work dir from
    another training is left alone, and the command line says again where to start.
    """
    pointer = pointer_of(work_dir)
    if restart_count() == 0 or not pointer.is_file():
        return None
    return 'latest' if pointer.stat().st_mtime_ns >= int(os.environ.get(LAUNCHED, 0)) else None
