"""What a training has written of its progress: mmengine's file of scalars, and its length."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.utils.files import write_json

# In the folder of a start, beside `vis_data`.
LENGTH = 'length.json'


@dataclass(frozen=True)
class Step:
    """Where a training is.

    Attributes:
        done: iterations so far; 0 before the first that was logged.
        seconds: of an iteration lately; None where it is not known.
        total: iterations of the whole training; None where it is not known.
    """

    done: int = 0
    seconds: float | None = None
    total: int | None = None


def write_length(folder: Path, iterations: int) -> None:
    """Note how many iterations a training takes, which a config in epochs does not say.

    Args:
        folder: of the start, such as `<work dir>/20260101_120000`.
        iterations: of the whole training.
    """
    write_json(folder / LENGTH, {'iterations': iterations})


def latest_step(folder: Path, since: float = 0.0) -> Step:
    """The furthest step that the latest training in a work dir has logged.

    Args:
        folder: the work dir.
        since: when that training started, in seconds since 1970; what was written before is of others.
    """
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    files = [file for file in files if file.stat().st_mtime >= since]
    step = Step()
    for entry in _entries(files[-1]) if files else []:
        # An evaluation counts epochs in the same field, and times images; a training has a loss.
        if ('loss' in entry or 'lr' in entry) and type(entry.get('step')) is int:
            step = max(step, Step(entry['step'], entry.get('time')), key=lambda each: each.done)
    return replace(step, total=_length(files[-1].parent.parent)) if files else step


def _length(folder: Path) -> int | None:
    try:
        return json.loads((folder / LENGTH).read_text(encoding='utf-8'))['iterations']
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _entries(file: Path) -> Iterator[dict]:
    """Lines that are whole; the last may be just being written."""
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
