"""Rendezvous of the tasks of `srun`."""

import subprocess
from collections.abc import Mapping

from evaluation.utils.errors import UserError

FIRST_PORT, PORTS = 20000, 20000


def meeting_of_slurm_tasks(environment: Mapping[str, str]) -> dict[str, str]:
    """Return torch's environment variables for a process group, from those that `srun` sets.

    Two jobs on one machine get different ports. `MASTER_ADDR` and `MASTER_PORT` are kept if set.

    Args:
        environment: environment of a task.

    Raises:
        UserError: the process was not started by `srun`.
    """
    if 'SLURM_PROCID' not in environment:
        raise UserError('--launcher slurm: this process was not started by srun; use tools/slurm_*.sh')
    return {
        'RANK': environment['SLURM_PROCID'],
        'WORLD_SIZE': environment['SLURM_NTASKS'],
        'LOCAL_RANK': environment['SLURM_LOCALID'],
        'MASTER_ADDR': environment.get('MASTER_ADDR') or first_host(environment),
        'MASTER_PORT': environment.get('MASTER_PORT') or str(port_of_step(environment)),
    }


def port_of_step(environment: Mapping[str, str]) -> int:
    """Return a port that all tasks of a job step agree on and that other jobs rarely share.

    Args:
        environment: environment of a task.
    """
    job, step = int(environment['SLURM_JOB_ID']), int(environment['SLURM_STEP_ID'])
    return FIRST_PORT + (31 * job + step) % PORTS


def first_host(environment: Mapping[str, str]) -> str:
    """Return the host of the first task; a loopback address if all tasks are on one machine."""
    if environment['SLURM_STEP_NUM_NODES'] == '1':
        return '127.0.0.1'
    command = ['scontrol', 'show', 'hostnames', environment['SLURM_STEP_NODELIST']]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
