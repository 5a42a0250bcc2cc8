"""`docs/errors.md`: what the commands say to bad input, written and checked by the tests that try it."""

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

What the commands say to bad input: one line on stderr that says what is wrong and what to do, no
traceback, and nothing half-written. The exit status is 2; 130 after Ctrl-C; 0 after a warning. An
exception that is not the user's to mend keeps its traceback and ends with status 1.

The tests that try each input wrote this page (`make errors`) and fail where it is out of date.
"""
ROW = re.compile(r'\| (?P<given>.+?) \| (?P<said>.+) \| (?P<status>\d+) \|')


class ErrorsPage:
    """Rows of the page: compared with those that stand there, or collected to be written.

    Args:
        new_page: file to write the collected rows to; None compares them with `PAGE`.
        scratch: folder whose folders the tests write to, each named after its test.
    """

    def __init__(self, new_page: Path | None, scratch: Path) -> None:
        self.new_page = new_page
        self.scratch = scratch
        self.rows: dict[tuple[str, str], tuple[str, str]] = {} if new_page else _read(PAGE)

    def enter(self, kind: str, given: str, said: str, status: int) -> None:
        """Check or collect one row.

        Args:
            kind: heading that it stands under, one of `KINDS`.
            given: the bad input, in words.
            said: the line that the command printed.
            status: its exit status.
        """
        assert kind in KINDS
        row = (self._on_any_machine(said).replace('|', r'\|'), str(status))
        if self.new_page:
            assert self.rows.setdefault((kind, given), row) == row
        else:
            assert self.rows.get((kind, given)) == row, f'{PAGE.name} says otherwise: make errors'

    def _on_any_machine(self, line: str) -> str:
        """A line without the folders of this machine and of this test."""
        line = re.sub(rf'{re.escape(str(self.scratch))}/[^/\s]+/', '…/', line)
        return line.replace(f'{ROOT}/', '')

    def write(self) -> None:
        """Write the rows that were collected, if they were."""
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
