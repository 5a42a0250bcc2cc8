"""Fixtures of the fault tests, and a table of the outcomes at the end of the run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.progress import Progress
from tests.faults.trainings import Training, trainings_of

# The same scenes and small trainings as in the tests of the commands.
from tests.tools.conftest import scenes, train, trials  # noqa: F401

COLUMNS = ('fault', 'tried', 'survived', 'lost')


@dataclass
class Row:
    """Outcomes of the trials of one fault."""

    tried: int = 0
    survived: int = 0
    lost: str = ''


@pytest.fixture(scope='session')
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to repeat faults as often as `docs/reliability.md` states, not just once or twice."""
    return request.config.getoption('--full')


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Add trials of a fault to the table at the end of the run."""

    def enter(name: str, tried: int, survived: int, lost: str, resumed: int = 0) -> None:
        """Add trials.

        Args:
            name: description of the fault; trials with the same name are added up.
            tried: number of trials.
            survived: number of trials after which every promise held.
            lost: description of what was lost, or `nothing`.
            resumed: number of trials after which a training was resumed.
        """
        of_files = 'fuzz' in Path(request.node.path).stem
        request.node.user_properties.append(('tally', (name, tried, survived, lost, resumed, of_files)))

    return enter


@pytest.fixture
def progress(request: pytest.FixtureRequest) -> Callable[[str, int], Progress]:
    """Create a progress report for a test with many trials; it is silent without `--full`."""
    terminal = request.config.pluginmanager.getplugin('terminalreporter')
    capture = request.config.pluginmanager.getplugin('capturemanager')

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.write_line(line)

    def make(name: str, total: int) -> Progress:
        is_said = request.config.getoption('--full') and terminal
        return Progress(f'  {name}', total, say if is_said else lambda _: None)

    return make


@pytest.fixture(scope='session')
def trainings(trials: dict, full: bool) -> dict[str, Training]:  # noqa: F811
    """Trainings of both tasks, with more steps and checkpoints than in the tests of the commands."""
    return trainings_of(trials, full)


@pytest.fixture(scope='session')
def reference_of(
    commands: object,
    trainings: dict[str, Training],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """Return the work dir of a task's undisturbed training, which runs on the first request."""
    finished: dict[str, Path] = {}

    def run(task: str) -> Path:
        if task not in finished:
            folder = tmp_path_factory.mktemp(f'{task}_reference')
            training = trainings[task]
            commands.succeed('train', *training.command(folder))
            finished[task] = folder
        return finished[task]

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows: dict[str, Row] = {}
    faults = mutations = resumptions = 0
    for name, tried, survived, lost, resumed, of_files in _entries(terminalreporter):
        row = rows.setdefault(name, Row())
        row.tried += tried
        row.survived += survived
        row.lost = lost if row.lost in ('', 'nothing') else row.lost
        resumptions += resumed
        if of_files:
            mutations += tried
        else:
            faults += tried
    failed = len(terminalreporter.stats.get('failed', []))
    if not rows:
        return
    lines = [COLUMNS, *((name, row.tried, row.survived, row.lost) for name, row in rows.items())]
    width = max(len(line[0]) for line in lines)
    terminalreporter.section('faults')
    for name, tried, survived, lost in lines:
        terminalreporter.write_line(f'{name:{width}} | {tried:>6} | {survived:>8} | {lost}')
    terminalreporter.write_line(
        f'{faults} faults, {mutations} mutations of files, {resumptions} resumptions'
    )
    if failed:
        terminalreporter.write_line(f'not counted: trials of {failed} failed tests, see above')


def _entries(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple]:
    for outcome in ('passed', 'failed'):
        for report in terminalreporter.stats.get(outcome, []):
            if getattr(report, 'when', None) == 'call':
                yield from (value for name, value in report.user_properties if name == 'tally')
