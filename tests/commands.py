"""Run the commands of `tools/` in forked processes, without importing the libraries each time.

A server process imports the libraries once. Every command runs in a fork of it, as
`python tools/<name>.py` would, with its own arguments, folder, output and exit status.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image
import psutil

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
LIBRARIES = (
    'backbones',
    *(f'mmdet.{part}' for part in ('datasets', 'evaluation', 'models', 'visualization')),
    *(f'mmseg.{part}' for part in ('datasets', 'evaluation', 'models', 'visualization')),
    *(f'{library}.engine' for library in ('mmdet', 'mmseg')),
    # Imported lazily by other libraries.
    'matplotlib.backends.backend_agg',
    'numba',
    'numba.np.arrayobj',
    'torch.distributed.run',
    'torch.utils.cpp_extension',
    'torch.utils.tensorboard',
    'yapf.yapflib.yapf_api',
)


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a command."""

    status: int
    stdout: str
    stderr: str


@dataclass
class Running:
    """A command that was started and may still be running.

    Attributes:
        process: process id, also the id of the process group.
        output: folder with the files `stdout` and `stderr`.
    """

    process: int
    output: Path
    commands: 'Commands'

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE

    def kill(self) -> None:
        """Kill the command and its data workers; do nothing after `wait`."""
        if self in self.commands.running:
            os.killpg(self.process, signal.SIGKILL)

    def wait(self) -> Outcome:
        """Wait for the command to end; call this once."""
        status = int(self.commands.ask(wait=self.process))
        self.commands.running.remove(self)
        texts = [Path(self.output, name).read_text() for name in ('stdout', 'stderr')]
        shutil.rmtree(self.output)
        return Outcome(status, *texts)


class Commands:
    """The server, as a context manager; calling it runs one command."""

    def __enter__(self) -> 'Commands':
        self.running: list[Running] = []
        self._folder = Path(tempfile.mkdtemp())
        address = self._folder / 'socket'
        proxy = f'{sys.executable} -IS {ROOT}/tests/forked_python.py {address}'
        Path(self.python).write_text(f'#!/bin/sh\nexec {proxy} "$@"\n')
        Path(self.python).chmod(0o700)
        # The socket accepts connections before the server is ready.
        listener = socket.create_server(str(address), family=socket.AF_UNIX)
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT), 'no_proxy': '127.0.0.1'},
        )
        listener.close()
        return self

    def __exit__(self, *_: object) -> None:
        for running in self.running:
            running.kill()
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()
        shutil.rmtree(self._folder)

    @property
    def python(self) -> str:
        """Path of a program that runs a script as Python does, in a fork of the server."""
        return str(self._folder / 'python')

    @property
    def forked(self) -> dict[str, str]:
        """Environment that makes the launchers and torchrun start forks of the server."""
        return {'PYTHON': self.python, 'PYTHON_EXEC': self.python}

    def __call__(self, command: str, *arguments: object, folder: Path = ROOT) -> Outcome:
        """Run `python tools/<command>.py <arguments>` in `folder`."""
        return self.start(command, *arguments, folder=folder).wait()

    def start(
        self,
        command: str,
        *arguments: object,
        folder: Path = ROOT,
        file_size: int = -1,
        modules: Path | None = None,
    ) -> Running:
        """Start a command without waiting for its end.

        Args:
            command: name of a tool.
            arguments: arguments of the command line.
            folder: working directory.
            file_size: size limit of the files that the command writes, in bytes; -1 for no limit.
            modules: folder of additional modules for the command and the processes that it starts.
        """
        output = tempfile.mkdtemp()
        for name in ('stdout', 'stderr'):
            Path(output, name).touch()
        process = self.ask(
            script=str(ROOT / 'tools' / f'{command}.py'),
            arguments=[str(argument) for argument in arguments],
            folder=str(folder),
            output=output,
            file_size=file_size,
            modules=[str(modules)] if modules else [],
        )
        running = Running(int(process), Path(output), self)
        self.running.append(running)
        return running

    def ask(self, **request: object) -> str:
        """Send the server one request and return its answer."""
        print(json.dumps(request), file=self._server.stdin, flush=True)
        return self._server.stdout.readline()

    def succeed(self, command: str, *arguments: object, folder: Path = ROOT) -> Outcome:
        """Run a command that must exit with status 0."""
        outcome = self(command, *arguments, folder=folder)
        assert outcome.status == 0, outcome.stdout[-2000:] + outcome.stderr[-4000:]
        return outcome


def option_list(options: dict[str, object]) -> Sequence[str]:
    """Return `--cfg-options` and its values."""
    return ['--cfg-options', *(f'{key}={value}'.replace(' ', '') for key, value in options.items())]


def read_results(folder: Path) -> list[dict]:
    """Return the content of every `result.json` below a folder, sorted by path."""
    return [json.loads(file.read_text()) for file in sorted(folder.rglob('result.json'))]


def serve(listener: int) -> None:
    """Answer requests on stdin: with the process id for a start, and the exit status for a wait.

    For each connection to the socket `listener`, fork what `tests/forked_python.py` requests.
    """
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # Some imports print.
    gc.disable()
    _import_libraries()
    proxies = socket.socket(fileno=listener)
    while True:
        if proxies in select.select([sys.stdin, proxies], [], [])[0]:
            link, _ = proxies.accept()
            if not os.fork():
                _keep_fork(link)
            link.close()
            continue
        line = sys.stdin.readline()
        if not line:
            return
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
    """Import what every command needs; from the suite, only what must come before mmdet."""
    for name in LIBRARIES:
        importlib.import_module(name)
    PIL.Image.init()
    # Forks exclude these objects from garbage collection.
    gc.freeze()
    gc.enable()


def _keep_fork(link: socket.socket) -> None:
    """Fork a requested process, report its exit status, and kill it if the requester ends first."""
    _, outputs, _, _ = socket.recv_fds(link, 1, 3)
    answers = link.makefile('rw')
    request = json.loads(answers.readline())
    process = os.fork()
    if not process:
        for number, output in enumerate(outputs):
            os.dup2(output, number)
        os.environ.clear()
        os.environ.update(request['environment'])
        os.chdir(request['folder'])
        _become(request['script'], request['arguments'])
    print(process, file=answers, flush=True)
    end = os.pidfd_open(process)
    if end not in select.select([link, end], [], [])[0]:
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        print(status, file=answers, flush=True)
    os._exit(0)


def _run(
    script: str,
    arguments: list[str],
    folder: str,
    output: str,
    file_size: int,
    modules: list[str],
) -> None:
    """Turn this process into the command; do not return."""
    signal.alarm(SECONDS)
    os.chdir(folder)
    for number, name in enumerate((os.devnull, f'{output}/stdout', f'{output}/stderr')):
        mode = os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY
        os.dup2(os.open(name, mode), number)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    os.environ['PYTHONPATH'] = os.pathsep.join([*modules, str(ROOT)])
    sys.path[1:1] = modules
    _become(script, arguments)


def _become(script: str, arguments: list[str]) -> None:
    """Run a script as Python does; do not return."""
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
    serve(int(sys.argv[1]))
