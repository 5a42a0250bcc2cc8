"""Places and commands of jobs, and termination of all processes that a command starts."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from evaluation.utils.errors import UserError
from evaluation.utils.interruption import STOPPING
from evaluation.utils.slurm_tasks import port_of_step

TOOLS = Path(__file__).resolve().parent.parent.parent / 'tools'
# Variables of `srun` that describe the job's task, not a process of the training.
OF_THE_TASK = ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS', 'SLURM_NPROCS')
LAST_PORT = 65535
FIRST_PORT = 29500
# Distance between the first ports of concurrent jobs, so that no two try the same port.
PORTS_A_PLACE = 100
POLL_SECONDS = 0.1
# Training ends within seconds when asked to stop; Slurm allows 30 by default.
SECONDS_TO_STOP = 25.0
# Option of prctl(2).
SET_CHILD_SUBREAPER = 36
SECONDS_BETWEEN_KILLS = 0.02
# Signals that a terminal sends to all processes started from it.
OF_THE_TERMINAL = (signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Place:
    """Where a job runs.

    Attributes:
        processes: number of training processes per machine.
        threads: number of threads per process.
        devices: ids of the GPUs reserved for the job; None for all visible ones.
        first_port: port where the search for a free one starts; None to derive the port from the id of
            the Slurm job.
    """

    processes: int = 1
    threads: int = 1
    devices: tuple[str, ...] | None = None
    first_port: int | None = FIRST_PORT


@dataclass(frozen=True)
class Node:
    """Number of this machine in its job, and address of the first one."""

    number: int = 0
    count: int = 1
    first_host: str = '127.0.0.1'


def command_of(script: str, config: str, arguments: list[str], place: Place, node: Node) -> list[str]:
    """Return the command that runs `train` or `test` in the processes of a place.

    Args:
        script: `train` or `test`.
        config: path of the config file.
        arguments: remaining arguments; for a test, the checkpoint comes first.
        place: where the job runs.
        node: this machine's number in the job.
    """
    if place.processes == 1 and node.count == 1:
        return [sys.executable, '-u', str(TOOLS / f'{script}.py'), config, *arguments]
    # `dist_test.sh` takes the number of processes as its third argument.
    positional = arguments[:1] if script == 'test' else []
    options = arguments[len(positional) :]
    launcher = str(TOOLS / f'dist_{script}.sh')
    return ['bash', launcher, config, *positional, str(place.processes), *options]


def environment_of(place: Place, node: Node, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of that command.

    Args:
        place: where the job runs.
        node: this machine's number in the job.
        environment: environment of the job.
    """
    changes = {
        'OMP_NUM_THREADS': str(place.threads),
        'PYTHON': sys.executable,
        'PYTHONPATH': python_path(environment),
    }
    if place.devices is not None:
        changes['CUDA_VISIBLE_DEVICES'] = ','.join(place.devices)
    if place.processes > 1 or node.count > 1:
        # Several machines must agree on the port; only a single machine can search for a free one.
        first_port = place.first_port or port_of_step(environment)
        port = free_port(first_port) if node.count == 1 else first_port
        changes |= {'PORT': str(port), 'NNODES': str(node.count), 'NODE_RANK': str(node.number)}
        changes['MASTER_ADDR'] = node.first_host
    kept = {name: value for name, value in environment.items() if name not in OF_THE_TASK}
    return {**kept, **changes}


def python_path(environment: Mapping[str, str]) -> str:
    """Return a `PYTHONPATH` that finds this code first."""
    return os.pathsep.join(filter(None, [str(TOOLS.parent), environment.get('PYTHONPATH', '')]))


def free_port(first: int) -> int:
    """Return the first free port from `first` on."""
    for port in range(first, LAST_PORT):
        with socket.socket() as probe:
            # Like torchrun's own server, accept a port whose last connections have just ended.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(('', port))
                return port
            except OSError:
                continue
    raise OSError(f'no port from {first} on is free')


def local_places(gpus: int, parallel: int | None, jobs: int) -> list[Place]:
    """Return places for jobs on this machine, each with its own GPUs or CPU cores.

    Args:
        gpus: GPUs per job, or processes per job without GPUs; 0 for one process on the CPU.
        parallel: number of places; None for as many as fit, at most `jobs`.
        jobs: number of jobs.

    Raises:
        UserError: there are not enough GPUs or cores.
    """
    devices = visible_devices() if gpus else []
    cores = len(os.sched_getaffinity(0))
    processes = max(1, gpus)
    what, there = ('GPUs', len(devices)) if devices else ('CPU cores', cores)
    if processes > there:
        raise UserError(f'--gpus is {gpus}, but this machine has {there} {what}; give at most {there}')
    room = there // processes
    if devices and parallel and parallel > room:
        raise UserError(
            f'--parallel is {parallel}, but {there} GPUs are only enough for {room} jobs of {gpus}; '
            f'give at most {room}'
        )
    count = parallel or max(1, min(room, jobs))
    threads = max(1, cores // (count * processes))
    return [
        Place(
            processes,
            threads,
            tuple(devices[number * gpus : (number + 1) * gpus]) if devices else (),
            FIRST_PORT + PORTS_A_PLACE * number,
        )
        for number in range(count)
    ]


def visible_devices() -> list[str]:
    """Return the ids of the GPUs, as in `CUDA_VISIBLE_DEVICES`."""
    # Imported here since jobs import this module and do not need torch.
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]
    return named[:count] if named else [str(number) for number in range(count)]


def run_to_its_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: BinaryIO,
    descriptors: Sequence[int],
    is_asked_to_stop: Callable[[], bool],
    seconds_to_stop: float = SECONDS_TO_STOP,
) -> int:
    """Run a command and end all of its descendants.

    The processes of torchrun lead their own sessions; torchrun waits 30 s for those that do not stop.

    Args:
        command: program and arguments.
        environment: environment of the command.
        log: file for the output.
        descriptors: open files that the command inherits.
        is_asked_to_stop: returns True once the command should be asked to stop.
        seconds_to_stop: time until a command that was asked to stop is killed.

    Returns:
        Exit status, negative for a signal.
    """
    adopt_orphans()
    child = subprocess.Popen(
        command,
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env=environment,
        pass_fds=descriptors,
        start_new_session=True,
    )
    asked = None
    while child.poll() is None:
        if asked is None and is_asked_to_stop():
            child.send_signal(signal.SIGTERM)
            asked = time.monotonic()
        if asked is not None and time.monotonic() - asked > seconds_to_stop:
            child.kill()
        time.sleep(POLL_SECONDS)
    end_descendants()
    return child.returncode


def process_started(pid: int) -> int | None:
    """Return the start time of a process on this machine, in ticks; None if it is not alive (Linux)."""
    stat = _stat(pid)
    return None if stat is None or stat[0] == 'Z' else int(stat[19])


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends.

    Raises:
        OSError: the system does not support this.
    """
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def end_descendants() -> None:
    """Kill all descendants of this process and wait until they have ended.

    Descendants whose parents have ended are included only after `adopt_orphans`.
    """
    while left := _descendants(os.getpid()):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(SECONDS_BETWEEN_KILLS)


def _descendants(ancestor: int) -> set[int]:
    stats = {pid: _stat(pid) for pid in (int(folder.name) for folder in Path('/proc').glob('[0-9]*'))}
    parents = {pid: int(stat[1]) for pid, stat in stats.items() if stat is not None}
    found, newest = set(), {ancestor}
    while newest:
        newest = {pid for pid, parent in parents.items() if parent in newest}
        found |= newest
    return found


def _stat(pid: int) -> list[str] | None:
    """Return `/proc/PID/stat` from field 3 on: state, parent, ..., start; None if the process is gone.

    Field 2, the name, may contain spaces and parentheses.
    """
    try:
        text = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8', errors='replace')
    except OSError:
        return None
    return text.rpartition(')')[2].split()


@contextlib.contextmanager
def interruptions_deferred() -> Iterator[None]:
    """Delay signals that ask to stop until the end of this block."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}
    caught = [number for number, handler in before.items() if callable(handler)]
    for number in caught:
        signal.signal(number, lambda received_number, _: received.append(received_number))
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])
    if received:
        signal.raise_signal(received[0])


@contextlib.contextmanager
def children_detached() -> Iterator[None]:
    """Start processes that ignore signals of the terminal: Ctrl-C and hangup."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in OF_THE_TERMINAL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
