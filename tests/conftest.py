import gc
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.commands import ROOT, Commands, Outcome
from tests.errors_page import ErrorsPage
from tests.launching import environment_of_tests

# Several test processes share the cores, so more threads per process would only slow them down.
torch.set_num_threads(int(os.environ.get('TEST_THREADS', '1')))
# Times say nothing on a busy machine.
settings.register_profile('without_deadline', deadline=None)
settings.load_profile('without_deadline')


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_configure():
    """Restore SIGINT handling if the launcher ignores it, as `nohup make test &` does in a script.

    Commands started by tests would inherit that, and tests of interruptions send SIGINT.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Exclude the libraries and all collected tests from garbage collection."""
    gc.freeze()


def pytest_addoption(parser):
    parser.addoption(
        '--write-errors',
        type=Path,
        metavar='FILE',
        help='write a new docs/errors.md to FILE; run without -n',
    )

    parser.addoption(
        '--full',
        action='store_true',
        help='repeat the faults of tests/faults as often as docs/reliability.md states',
    )


def pytest_collection_modifyitems(config, items):
    """With `--write-errors`, keep only the tests that add rows to the page."""
    if config.getoption('--write-errors'):
        kept = [item for item in items if 'errors_page' in item.fixturenames]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.fixture(scope='session')
def commands() -> Iterator[Commands]:
    """One server for all tests of a worker, because it takes seconds to start."""
    with Commands() as running:
        yield running


@pytest.fixture(scope='session')
def on_device(
    commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, list]]:
    """Run a command that must succeed on the pretended device; return its transfers."""

    def run(command: str, *arguments: object, folder: Path) -> dict[str, list]:
        output = tmp_path_factory.mktemp('transfers') / 'transfers.json'
        script = [ROOT / 'tests/on_pretended_device.py', output, ROOT / f'tools/{command}.py']
        done = subprocess.run(
            [str(word) for word in (commands.python, *script, *arguments)],
            env=environment_of_tests(),
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(output.read_text())

    return run


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
    """Check that a command rejected its input, and that `docs/errors.md` has the message."""

    def check(kind: str, given: str, outcome: Outcome, *messages: str) -> None:
        """Require status 2 and one `error:` line, the last of stderr, that contains all `messages`."""
        assert outcome.status == 2, outcome.stderr[-3000:]
        assert 'Traceback' not in outcome.stdout + outcome.stderr
        lines = [line for line in outcome.stderr.splitlines() if line.startswith('error:')]
        assert len(lines) == 1
        assert outcome.stderr.splitlines()[-1] == lines[0]
        for message in messages:
            assert message in lines[0]
        errors_page.enter(kind, given, lines[0], outcome.status)

    return check
