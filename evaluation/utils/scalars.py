"""Read the logged progress of a training: mmengine's scalars file, and the training's length."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.utils.files import write_json

# In the folder of a single start, beside `vis_data`.
LENGTH = 'length.json'


@dataclass(frozen=True)
class Step:
    """Progress of a training.

    Attributes:
        done: iterations so far; 0 before the first logged one.
        seconds: recent time per iteration; None if unknown.
        total: iterations of the whole training; None if unknown.
    """

    done: int = 0
    seconds: float | None = None
    total: int | None = None


def write_length(folder: Path, iterations: int) -> None:
    """Write the number of iterations of a training, which a config in epochs does not state.

    Args:
        folder: folder of the start, such as `<work dir>/20260101_120000`.
        iterations: iterations of the whole training.
    """
    write_json(folder / LENGTH, {'iterations': iterations})


def latest_step(folder: Path, since: float = 0.0) -> Step:
    """Return the last step that the latest training in a work dir has logged.

    Args:
        folder: the work dir.
        since: start time of that training, in seconds since 1970; older files are ignored.
    """
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    files = [file for file in files if file.stat().st_mtime >= since]
    step = Step()
    for entry in _entries(files[-1]) if files else []:
        # Evaluations log epochs in the same field, and time per image; only training logs a loss.
        if ('loss' in entry or 'lr' in entry) and type(entry.get('step')) is int:
            step = max(step, Step(entry['step'], entry.get('time')), key=lambda each: each.done)
    return replace(step, total=_length(files[-1].parent.parent)) if files else step


def _length(folder: Path) -> int | None:
    try:
        return json.loads((folder / LENGTH).read_text(encoding='utf-8'))['iterations']
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _entries(file: Path) -> Iterator[dict]:
    """Yield the complete entries; the last line may still be being written."""
    try:
        lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry
