"""Runs the commands of `tools/`, each in a process of its own, without importing it all anew.

A server process imports them once; every command runs in a fork of it, just as `python tools/<name>.py`
would, with its own arguments, folder, output and exit status.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
LIBRARIES = (
    'backbones',
    *(f'mmdet.{part}' for part in ('datasets', 'evaluation', 'models', 'visualization')),
    *(f'mmseg.{part}' for part in ('datasets', 'evaluation', 'models', 'visualization')),
)


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and all that it printed."""

    status: int
    stdout: str
    stderr: str


class Commands:
    """The server, as a context manager; calling it runs one command."""

    def __enter__(self) -> 'Commands':
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), 'no_proxy': '127.0.0.1'},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def __call__(self, command: str, *arguments: object, folder: Path = ROOT) -> Outcome:
        """Run `python tools/<command>.py <arguments>` in `folder`."""
        with tempfile.TemporaryDirectory() as output:
            request = {
                'script': str(ROOT / 'tools' / f'{command}.py'),
                'arguments': [str(argument) for argument in arguments],
                'folder': str(folder),
                'output': output,
            }
            print(json.dumps(request), file=self._server.stdin, flush=True)
            status = int(self._server.stdout.readline())
            texts = [Path(output, name).read_text() for name in ('stdout', 'stderr')]
        return Outcome(status, *texts)

    def succeed(self, command: str, *arguments: object, folder: Path = ROOT) -> Outcome:
        """Run a command that must exit with status 0."""
        outcome = self(command, *arguments, folder=folder)
        assert outcome.status == 0, outcome.stdout[-2000:] + outcome.stderr[-4000:]
        return outcome


def option_list(options: dict[str, object]) -> Sequence[str]:
    """`--cfg-options` and its values."""
    return ['--cfg-options', *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]


def read_results(folder: Path) -> list[dict]:
    """Every `result.json` below a folder, in the order of their paths."""
    return [json.loads(file.read_text()) for file in sorted(folder.rglob('result.json'))]


def serve() -> None:
    """Answer each request on stdin with the exit status of its command."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # Imports print.
    _import_libraries()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(**json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, file=answers, flush=True)


def _import_libraries() -> None:
    """Import what every command needs, but of the suite only what must come before mmdet."""
    for name in LIBRARIES:
        importlib.import_module(name)


def _run(script: str, arguments: list[str], folder: str, output: str) -> None:
    """Become the command; does not return."""
    signal.alarm(SECONDS)
    os.chdir(folder)
    for number, name in enumerate((os.devnull, f'{output}/stdout', f'{output}/stderr')):
        mode = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(name, mode), number)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    status = 0
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == '__main__':
    serve()
