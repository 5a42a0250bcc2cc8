"""Runs the commands of `tools/`, each in a process of its own, without importing it all anew.

A server process imports them once; every command runs in a fork of it, just as `python tools/<name>.py`
would, with its own arguments, folder, output and exit status.
"""

import importlib
import json
import os
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

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


@dataclass
class Running:
    """A command that may still run.

    Attributes:
        process: its id, also that of its process group.
        output: folder with the files `stdout` and `stderr`.
    """

    process: int
    output: Path
    commands: 'Commands'

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE

    def kill(self) -> None:
        """End it at once, and the data workers that it started; nothing if it has been waited for."""
        if self in self.commands.running:
            os.killpg(self.process, signal.SIGKILL)

    def wait(self) -> Outcome:
        """Wait for its end; to be called once."""
        status = int(self.commands.ask(wait=self.process))
        self.commands.running.remove(self)
        texts = [Path(self.output, name).read_text() for name in ('stdout', 'stderr')]
        shutil.rmtree(self.output)
        return Outcome(status, *texts)


class Commands:
    """The server, as a context manager; calling it runs one command."""

    def __enter__(self) -> 'Commands':
        self.running: list[Running] = []
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
        for running in self.running:
            running.kill()
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def __call__(self, command: str, *arguments: object, folder: Path = ROOT) -> Outcome:
        """Run `python tools/<command>.py <arguments>` in `folder`."""
        return self.start(command, *arguments, folder=folder).wait()

    def start(
        self, command: str, *arguments: object, folder: Path = ROOT, file_size: int = -1
    ) -> Running:
        """Start the same, without waiting for its end.

        Args:
            command: name of a tool.
            arguments: of its command line.
            folder: where it runs.
            file_size: the largest file that it may write, in bytes; -1 for no limit.
        """
        output = tempfile.mkdtemp()
        process = self.ask(
            script=str(ROOT / 'tools' / f'{command}.py'),
            arguments=[str(argument) for argument in arguments],
            folder=str(folder),
            output=output,
            file_size=file_size,
        )
        running = Running(int(process), Path(output), self)
        self.running.append(running)
        return running

    def ask(self, **request: object) -> str:
        """Hand the server one request and return its answer."""
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return self._server.stdout.readline()

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
    """Answer each request on stdin: to start a command by its process, to wait by its exit status."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # Imports print.
    _import_libraries()
    for line in sys.stdin:
        request = json.loads(line)
        if 'wait' in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request['wait'], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                _run(**request)
            os.setpgid(answer, answer)
        print(answer, file=answers, flush=True)


def _import_libraries() -> None:
    """Import what every command needs, but of the suite only what must come before mmdet."""
    for name in LIBRARIES:
        importlib.import_module(name)


def _run(script: str, arguments: list[str], folder: str, output: str, file_size: int) -> None:
    """Become the command; does not return."""
    signal.alarm(SECONDS)
    os.chdir(folder)
    for number, name in enumerate((os.devnull, f'{output}/stdout', f'{output}/stderr')):
        mode = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(name, mode), number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
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
