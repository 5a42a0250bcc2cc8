"""What the output of a job or a command says: why it failed, and how long an epoch is."""

import os
import re
from pathlib import Path

TAIL_BYTES = 20_000
# Of processes that torchrun numbers, `[rank0]:` stands before.
REASON = re.compile(r'(\[rank\d+\]: *)?((error: .*)|([A-Za-z_][\w.]*(Error|Exception|Interrupt)\b.*))')
EPOCH = re.compile(r'Epoch\(train\) +\[(\d+)\]\[ *(\d+)/(\d+)\]')
LONGEST = 300


def tail(file: Path, start: int = 0) -> list[str]:
    """The last lines of a file that hold something, of what was written from byte `start` on."""
    try:
        with open(file, 'rb') as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(start, size - TAIL_BYTES))
            text = log.read().decode(errors='replace')
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip(' =-*')]


def reason(lines: list[str]) -> str:
    """The line that says why a command failed: its error, else its last line."""
    found = [match[2] for line in lines if (match := REASON.fullmatch(line))]
    line = (found or lines or ['it said nothing'])[-1]
    return line if len(line) <= LONGEST else f'{line[:LONGEST]}…'


def complaint(error: Exception) -> str:
    """The first line of what a command said before it failed, else of how that was noticed."""
    said = getattr(error, 'stderr', None) or b''
    # Of one that took too long, bytes whatever was asked for.
    text = said if isinstance(said, str) else said.decode(errors='replace')
    lines = [line.strip() for line in [*text.splitlines(), *str(error).splitlines()]]
    return next(filter(None, lines), 'no reason given')


def epoch_length(lines: list[str]) -> int | None:
    """Steps of an epoch, as mmengine logs them; None where no line tells."""
    found = [match for line in lines if (match := EPOCH.search(line))]
    return int(found[-1][3]) if found else None
