"""Commands of jobs: whatever they start ends with them, also processes that heed no signal."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launching import TOOLS, environment_of_tests, free_port, places, processes_with

RANKS = min(2, places())
SECONDS = 60
# As where a collective operation hangs: the interpreter never comes to handle the signal.
DEAF = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(f'{sys.argv[1]}/{os.getpid()}_{os.getppid()}', 'w').close()
time.sleep(60)
"""
JOB = """
import os, sys
from evaluation.sweep.running import run_to_its_end
stop, *command = sys.argv[1:]
print(run_to_its_end(command, os.environ, sys.stderr.buffer, [], lambda: os.path.exists(stop), 0.5))
"""


@pytest.fixture
def job(tmp_path):
    """A job whose command is torchrun with processes that heed no SIGTERM, once these are there."""
    deaf, folder = tmp_path / 'deaf.py', tmp_path / 'there'
    deaf.write_text(DEAF)
    folder.mkdir()
    launch = [TOOLS / 'launch.py', '--nproc_per_node', RANKS, '--master_port', free_port(), deaf, folder]
    words = [sys.executable, '-c', JOB, tmp_path / 'stop', sys.executable, *launch]
    process = subprocess.Popen(
        [str(word) for word in words], env=environment_of_tests(), stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + SECONDS
    while len(list(folder.iterdir())) < RANKS and time.monotonic() < end:
        time.sleep(0.1)
    yield process
    process.stdout.close()


@pytest.mark.parametrize('way', ['asked to stop', 'torchrun is killed'])
def test_nothing_outlives_a_job(job, tmp_path, way):
    names = [file.name.split('_') for file in (tmp_path / 'there').iterdir()]
    assert len(names) == RANKS
    if way == 'asked to stop':
        (tmp_path / 'stop').touch()
    else:
        subprocess.run(['kill', '-KILL', names[0][1]], check=True)
    said, _ = job.communicate(timeout=SECONDS)
    assert int(said) == -signal.SIGKILL
    assert [pid for pid, _ in names if Path('/proc', pid).exists()] == []
    assert not processes_with(tmp_path / 'there')
