"""Start a command in several processes on this machine, like torchrun: one per GPU, or on the CPU.

    python tools/launch.py --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch

Takes torchrun's options. After invalid input or an interruption, only the message of the process is
printed, and its exit status is returned. After any other failure, torchrun's report follows. With
`--max_restarts N`, all processes are restarted after such a failure, at most N times; training then
resumes from its last checkpoint.
"""

import inspect
import logging
import os
import signal
import sys
import time

from evaluation.utils.errors import BAD_INPUT, UserError, command, warn
from evaluation.utils.process_groups import LAUNCHED

# The process has already printed the cause.
SELF_EXPLAINED = (BAD_INPUT, 128 + signal.SIGINT, 128 + signal.SIGTERM)
# Statuses of processes that torchrun terminates because another one failed.
ENDED = (*SELF_EXPLAINED, -signal.SIGTERM, -signal.SIGINT)


@command
def main() -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    arguments = parse_args(sys.argv[1:])
    if arguments.nproc_per_node.isdigit():
        check_places(int(arguments.nproc_per_node))
    os.environ[LAUNCHED] = str(time.time_ns())
    if arguments.max_restarts:
        leave_bad_input_alone()
    logging.disable()  # torchrun repeats what the processes print themselves
    try:
        run(arguments)
    except ChildFailedError as error:
        statuses = [failure.exitcode for failure in error.failures.values()]
        status = first_cause(statuses)
        if status not in SELF_EXPLAINED:
            print(error, file=sys.stderr)
        if status < 0:
            print(f'error: {end_by_signal(error.failures, status)}', file=sys.stderr)
        sys.exit(status if status > 0 else 128 - status)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def leave_bad_input_alone() -> None:
    """Keep torchrun from restarting after invalid input, which would fail again.

    torch has no public option for this, so its agent is replaced by a subclass. If torch's internals are
    not as expected, nothing is replaced, and invalid input leads to restarts like any other failure.
    """
    from torch.distributed.launcher import api

    agent = getattr(api, 'LocalElasticAgent', None)
    monitor = getattr(agent, '_monitor_workers', None)
    if monitor is None or [*inspect.signature(monitor).parameters] != ['self', 'worker_group']:
        warn(
            'unsupported torchrun agent in this torch; --max_restarts also restarts after invalid input'
        )
        return

    class Agent(agent):
        def _monitor_workers(self, worker_group: object) -> object:
            result = super()._monitor_workers(worker_group)
            if any(failure.exitcode == BAD_INPUT for failure in result.failures.values()):
                self._remaining_restarts = 0
            return result

    api.LocalElasticAgent = Agent


def end_by_signal(failures: dict, status: int) -> str:
    """Return the message for a process that was killed by a signal.

    Args:
        failures: failures reported by torchrun, by rank on this machine.
        status: exit status of the process: the negative number of the signal.
    """
    rank = next(rank for rank, failure in failures.items() if failure.exitcode == status)
    name = signal.Signals(-status).name
    return (
        f'process {rank} on this machine was killed by {name}, perhaps because memory ran out, so the '
        'others were stopped; to resume training, repeat the command with --resume, or set MAX_RESTARTS'
    )


def check_places(processes: int) -> None:
    """Check that this machine has a GPU for each process, or a CPU core if there are no GPUs.

    Raises:
        UserError: there are fewer.
    """
    import torch

    places = torch.cuda.device_count() or len(os.sched_getaffinity(0))
    if processes > places:
        raise UserError(
            f'GPUS is {processes}, but this machine has room for {places} (one process per GPU, or per '
            f'CPU core if there are no GPUs); give at most {places}'
        )


def first_cause(statuses: list[int]) -> int:
    """Return the exit status that explains the others: invalid input, else a failure, else a signal.

    Args:
        statuses: exit statuses of the processes that failed or that torchrun stopped; negative for
            signals.
    """
    if BAD_INPUT in statuses:
        return BAD_INPUT
    failures = [status for status in statuses if status not in ENDED]
    return (failures or statuses)[0]


if __name__ == '__main__':
    main()
