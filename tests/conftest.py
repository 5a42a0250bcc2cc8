import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.commands import Commands, Outcome
from tests.errors_page import ErrorsPage

# Several test processes share the cores, so more threads only wait for each other.
torch.set_num_threads(int(os.environ.get('TEST_THREADS', '1')))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_configure():
    """Handle SIGINT even if the launcher ignores it, as `nohup make test &` does in a script.

    Otherwise the commands that tests start would ignore it too, and tests of interruptions send it.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Exclude the libraries and all tests from garbage collection, which takes time."""
    gc.freeze()


def pytest_addoption(parser):
    parser.addoption(
        '--write-errors',
        type=Path,
        metavar='FILE',
        help='write the current content of docs/errors.md to FILE; run without -n',
    )

    parser.addoption(
        '--full',
        action='store_true',
        help='try the faults of tests/faults as often as docs/reliability.md says',
    )


def pytest_collection_modifyitems(config, items):
    """With `--write-errors`, select only the tests that add rows to the page."""
    if config.getoption('--write-errors'):
        kept = [item for item in items if 'errors_page' in item.fixturenames]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.fixture(scope='session')
def commands() -> Iterator[Commands]:
    """One server for all tests of a worker, since starting it takes seconds."""
    with Commands() as running:
        yield running


@pytest.fixture(scope='session')
def errors_page(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ErrorsPage]:
    new_page = request.config.getoption('--write-errors')
    page = ErrorsPage(new_page, scratch=tmp_path_factory.getbasetemp())
    yield page
    page.write()


@pytest.fixture
def refused(errors_page: ErrorsPage) -> Callable[..., None]:
    """Check that a command refused its input, and that `docs/errors.md` has the message."""

    def check(kind: str, given: str, outcome: Outcome, *messages: str) -> None:
        """Check for status 2 and one `error:` line at the end of stderr, with all of `messages`."""
        assert outcome.status == 2, outcome.stderr[-3000:]
        assert 'Traceback' not in outcome.stdout + outcome.stderr
        lines = [line for line in outcome.stderr.splitlines() if line.startswith('error:')]
        assert len(lines) == 1
        assert outcome.stderr.splitlines()[-1] == lines[0]
        for message in messages:
            assert message in lines[0]
        errors_page.enter(kind, given, lines[0], outcome.status)

    return check
