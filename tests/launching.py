"""Run `tools/*.sh` and other commands in separate processes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch

from tests.commands import ROOT, Outcome

TOOLS = ROOT / 'tools'
SECONDS = 300


def shell(script: str, *arguments: object, folder: Path = ROOT, **environment: str) -> Outcome:
    """Run `bash tools/<script>` with this Python."""
    done = subprocess.run(
        ['bash', str(TOOLS / script), *map(str, arguments)],
        env=environment_of_tests(**environment),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def start(command: list[object], output: Path, **environment: str) -> subprocess.Popen:
    """Start a command as a terminal does: as the leader of a process group, with Ctrl-C enabled.

    Args:
        command: program and arguments.
        output: folder that gets the files `stdout` and `stderr`.
    """
    output.mkdir(parents=True)
    with open(output / 'stdout', 'w') as stdout, open(output / 'stderr', 'w') as stderr:
        return subprocess.Popen(
            [str(word) for word in command],
            env=environment_of_tests(**environment),
            cwd=ROOT,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            # A test run in the background ignores SIGINT, and its child processes would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )


def environment_of_tests(**changes: str) -> dict[str, str]:
    """Return the current environment, with this Python and one thread per process."""
    return {
        **os.environ,
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT),
        'OMP_NUM_THREADS': '1',
        **changes,
    }


def free_port() -> str:
    """Return an unused port."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


def processes_with(argument: object) -> list[str]:
    """Return the command lines of all processes that have an argument."""
    found = []
    for file in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = file.read_text().split('\0')
        except OSError:  # the process has ended
            continue
        if str(argument) in words:
            found.append(' '.join(words))
    return found


def places() -> int:
    """Return how many processes fit this machine: one per GPU, or one per CPU core without GPUs."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))
