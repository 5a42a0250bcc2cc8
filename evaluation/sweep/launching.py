"""The command of one job: the suite's own launchers, with what tells several jobs apart."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from evaluation.utils.processes.slurm_tasks import port_of_step

TOOLS = Path(__file__).resolve().parent.parent.parent / 'tools'
# What `srun` tells its task about itself, which is the job's, not one of the training's processes.
OF_THE_TASK = ('SLURM_PROCID', 'SLURM_LOCALID', 'SLURM_NTASKS', 'SLURM_NPROCS')
LAST_PORT = 65535


@dataclass(frozen=True)
class Place:
    """Where a job runs.

    Attributes:
        processes: of the training on each machine.
        threads: of each process.
        devices: ids of the GPUs that the job has for itself; None leaves those that are visible.
        first_port: processes talk over the first port from here on that is free; None for one that
            the number of the Slurm job says.
    """

    processes: int = 1
    threads: int = 1
    devices: tuple[str, ...] | None = None
    first_port: int | None = 29500


@dataclass(frozen=True)
class Node:
    """Which of a job's machines this is, and which is the first."""

    number: int = 0
    count: int = 1
    first_host: str = '127.0.0.1'


def command_of(script: str, config: str, arguments: list[str], place: Place, node: Node) -> list[str]:
    """The command that runs `train` or `test` in so many processes.

    Args:
        script: `train` or `test`.
        config: file.
        arguments: that follow; for a test the checkpoint first.
        place: where the job runs.
        node: which of its machines this is.
    """
    if place.processes == 1 and node.count == 1:
        return [sys.executable, '-u', str(TOOLS / f'{script}.py'), config, *arguments]
    # Of `dist_test.sh` the number of processes is the third argument.
    positional = arguments[:1] if script == 'test' else []
    options = arguments[len(positional) :]
    launcher = str(TOOLS / f'dist_{script}.sh')
    return ['bash', launcher, config, *positional, str(place.processes), *options]


def environment_of(place: Place, node: Node, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of that command.

    Args:
        place: where the job runs.
        node: which of its machines this is.
        environment: of the job.
    """
    changes = {
        'OMP_NUM_THREADS': str(place.threads),
        'PYTHON': sys.executable,
        'PYTHONPATH': python_path(environment),
    }
    if place.devices is not None:
        changes['CUDA_VISIBLE_DEVICES'] = ','.join(place.devices)
    if place.processes > 1 or node.count > 1:
        # Several machines must agree on the port, so that only one alone can look which is free.
        first_port = place.first_port or port_of_step(environment)
        port = free_port(first_port) if node.count == 1 else first_port
        changes |= {'PORT': str(port), 'NNODES': str(node.count), 'NODE_RANK': str(node.number)}
        changes['MASTER_ADDR'] = node.first_host
    kept = {name: value for name, value in environment.items() if name not in OF_THE_TASK}
    return {**kept, **changes}


def python_path(environment: Mapping[str, str]) -> str:
    """`PYTHONPATH` by which this very code is found, whatever the environment has of it."""
    return os.pathsep.join(filter(None, [str(TOOLS.parent), environment.get('PYTHONPATH', '')]))


def free_port(first: int) -> int:
    """The first port from here on that nobody listens on."""
    for port in range(first, LAST_PORT):
        with socket.socket() as probe:
            # As torchrun's own server does: a port whose last connections just ended is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(('', port))
                return port
            except OSError:
                continue
    raise OSError(f'no port from {first} on is free')
