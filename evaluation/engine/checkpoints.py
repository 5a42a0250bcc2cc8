"""Find the checkpoints of a work dir, through its file `last_checkpoint` or by name.

mmengine writes the name of its last checkpoint to that file. This module does not import PyTorch: the
jobs of sweeps only start other processes, and the import would cost them seconds and memory.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from evaluation.utils.process_groups import LAUNCHED, restart_count

# Names of the checkpoints that the suite writes.
NAMES = re.compile(r'(?:epoch|iter)_(?P<number>\d+)\.pth')


def pointer_of(work_dir: str | Path) -> Path:
    """Return the path of `last_checkpoint`; the file may be missing."""
    return Path(work_dir, 'last_checkpoint')


def named_checkpoint(work_dir: str | Path) -> str | None:
    """Return the name in `last_checkpoint`; '' if a crash left it empty or garbled, None without one."""
    try:
        return pointer_of(work_dir).read_text().replace('\0', '').strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        return ''


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the checkpoint that was written last; None if there is none or it is gone.

    If the work dir was moved or copied, this is the checkpoint in its new place.
    """
    named = named_checkpoint(work_dir)
    places = [Path(work_dir, Path(named).name), Path(named)] if named else []
    return next((place for place in places if place.is_file()), None)


def candidates(work_dir: Path) -> Iterator[Path]:
    """Yield the existing checkpoints of a training, intact or not, in order of preference."""
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
    """Return `latest` if a restarted training resumes from the last checkpoint that it wrote.

    None on the first start, or if no checkpoint was written since. A checkpoint that another training
    left in the work dir is ignored; the command line decides again where to start.
    """
    pointer = pointer_of(work_dir)
    if restart_count() == 0 or not pointer.is_file():
        return None
    return 'latest' if pointer.stat().st_mtime_ns >= int(os.environ.get(LAUNCHED, 0)) else None
