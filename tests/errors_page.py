"""Write or check `docs/errors.md`, the error messages for bad input, in the tests that cause them."""

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

This page lists the error message for each kind of bad input: one line on stderr that says what is wrong
and what to do. There is no traceback, and no file is half-written. The exit status is 2; 130 after
Ctrl-C; 0 after a warning. An exception that is not a user error keeps its traceback and ends with
status 1.

The tests that try each input write this page (`make errors`) and fail if it is out of date.
"""
ROW = re.compile(r'\| (?P<given>.+?) \| (?P<said>.+) \| (?P<status>\d+) \|')


class ErrorsPage:
    """Rows of the page, either compared with the current page or collected for a new one.

    Args:
        new_page: file to write the collected rows to; None compares them with `PAGE`.
        scratch: parent of the temporary folders of all tests.
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
        """Return a line without the folders of this machine and of this test."""
        line = re.sub(rf'{re.escape(str(self.scratch))}/[^/\s]+/', '…/', line)
        return line.replace(f'{ROOT}/', '')

    def write(self) -> None:
        """Write the collected rows, if `new_page` is given."""
        if not self.new_page:
            return
        lines = [OPENING]
        for kind in KINDS:
            rows = [(given, *row) for (place, given), row in self.rows.items() if place == kind]
            if rows:
                lines += [f'## {kind}\n', '| given | said | status |', '| --- | --- | --- |']
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
