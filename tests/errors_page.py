"""Page of error messages, `docs/errors.md`, written and checked by the tests of bad input."""

import re
from pathlib import Path

from tests.commands import ROOT

PAGE = ROOT / 'docs/errors.md'
KINDS = (
    'Data',
    'Classification',
    'Checkpoints',
    'Configs and options',
    'Launching',
    'Machine faults and divergence',
    'Sweeps',
    'Analyses',
    'Tables and other commands',
)
OPENING = """# Errors

Given bad input, a command prints one line on stderr that says what is wrong and what to do. It prints
no traceback and leaves no half-written files. The exit status is 2. After Ctrl-C it is 130, and after a
warning it is 0. An exception that is not a user error keeps its traceback and ends with status 1.

The tests that try each input write this page (`make errors`) and fail if it is out of date.
"""
ROW = re.compile(r'\| (?P<given>.+?) \| (?P<said>.+) \| (?P<status>\d+) \|')


class ErrorsPage:
    """Rows of the page: compared with the existing page, or collected for a new one.

    Args:
        new_page: file to write the collected rows to; None to compare them with `PAGE`.
        scratch: parent of the temporary folders of the tests.
    """

    def __init__(self, new_page: Path | None, scratch: Path) -> None:
        self.new_page = new_page
        self.scratch = scratch
        self.rows: dict[tuple[str, str], tuple[str, str]] = {} if new_page else _read(PAGE)

    def enter(self, kind: str, given: str, said: str, status: int) -> None:
        """Check or collect one row.

        Args:
            kind: heading of the row, one of `KINDS`.
            given: description of the bad input.
            said: line that the command printed.
            status: exit status of the command.
        """
        assert kind in KINDS
        row = (self._on_any_machine(said).replace('|', r'\|'), str(status))
        if self.new_page:
            assert self.rows.setdefault((kind, given), row) == row
        else:
            assert self.rows.get((kind, given)) == row, f'{PAGE.name} is out of date; run make errors'

    def _on_any_machine(self, line: str) -> str:
        """Return a line without the folders of this machine and this test."""
        line = re.sub(rf'{re.escape(str(self.scratch))}/[^/\s]+/', '…/', line)
        return line.replace(f'{ROOT}/', '')

    def write(self) -> None:
        """Write the collected rows, if there is a new page."""
        if not self.new_page:
            return
        lines = [OPENING]
        for kind in KINDS:
            rows = [(given, *row) for (place, given), row in self.rows.items() if place == kind]
            if rows:
                lines += [f'## {kind}\n', '| input | message | status |', '| --- | --- | --- |']
                lines += [f'| {given} | {said} | {status} |' for given, said, status in rows]
                lines.append('')
        self.new_page.write_text('\n'.join(lines).rstrip() + '\n')


def _read(page: Path) -> dict[tuple[str, str], tuple[str, str]]:
    rows, kind = {}, ''
    for line in page.read_text().splitlines() if page.is_file() else []:
        if line.startswith('## '):
            kind = line[3:]
        elif match := ROW.fullmatch(line):
            rows[kind, match['given']] = (match['said'], match['status'])
    return rows
