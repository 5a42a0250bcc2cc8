"""Where jobs run on this machine, several side by side: GPUs of their own, or cores."""

import os

import torch

from evaluation.sweep.launching import Place
from evaluation.utils.errors import UserError

FIRST_PORT = 29500
# Between the ports of jobs that run at the same time, so that two of them never try the same.
PORTS_A_PLACE = 100


def local_places(gpus: int, parallel: int | None, jobs: int) -> list[Place]:
    """Places for jobs on this machine.

    Args:
        gpus: GPUs of a job, or without GPUs its processes; 0 for one process on the CPU.
        parallel: how many places; None for as many as there is room for, at most `jobs`.
        jobs: how many there are.

    Raises:
        UserError: there are fewer GPUs or cores.
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
            f'--parallel is {parallel}, but {there} GPUs are enough for {room} jobs of {gpus}; '
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
    """Ids of the GPUs, as `CUDA_VISIBLE_DEVICES` names them."""
    count = torch.cuda.device_count()
    named = [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]
    return named[:count] if named else [str(number) for number in range(count)]
