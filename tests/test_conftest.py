"""Settings of the whole test suite."""

import signal
import subprocess
import sys

import pytest

from tests.commands import ROOT

pytestmark = pytest.mark.habits
CHILD = """
import signal, subprocess, sys
from tests.conftest import pytest_configure
pytest_configure()
child = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)'
subprocess.run([sys.executable, '-c', child], check=True)
"""


def test_commands_handle_sigint_that_the_launcher_ignores():
    """Launchers such as `nohup make test &` in a script ignore SIGINT."""
    done = subprocess.run(
        [sys.executable, '-c', CHILD],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert done.stdout == 'True\n'
