"""Start a command in several processes on this machine, as torchrun does: one a GPU, or on the CPU.

    python tools/launch.py --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch

Takes torchrun's options. What a process says about bad input or an interruption is all that is said, and
its exit status is this one's; on any other failure torchrun's report follows. With `--max_restarts N`
all are started again after such a failure, at most N times; a training then goes on from its last
checkpoint.
"""

import inspect
import logging
import os
import signal
import sys
import time

from evaluation.utils.errors import BAD_INPUT, UserError, command, warn
from evaluation.utils.process_groups import LAUNCHED

# The process has said why.
SELF_EXPLAINED = (BAD_INPUT, 128 + signal.SIGINT, 128 + signal.SIGTERM)
# How processes end that torchrun ends because another one failed.
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
    logging.disable()  # torchrun's own account of what the processes say themselves
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
    """Let torchrun start nothing again after bad input, which would be as bad the next time.

    torch has no public way to say so, so its agent is replaced by one that knows. Where torch is not as
    expected, nothing is replaced and bad input is tried again like any other failure.
    """
    from torch.distributed.launcher import api

    agent = getattr(api, 'LocalElasticAgent', None)
    monitor = getattr(agent, '_monitor_workers', None)
    if monitor is None or [*inspect.signature(monitor).parameters] != ['self', 'worker_group']:
        warn('this version of torch has another agent: --max_restarts counts for bad input too')
        return

    class Agent(agent):
        def _monitor_workers(self, worker_group: object) -> object:
            result = super()._monitor_workers(worker_group)
            if any(failure.exitcode == BAD_INPUT for failure in result.failures.values()):
                self._remaining_restarts = 0
            return result

    api.LocalElasticAgent = Agent


def end_by_signal(failures: dict, status: int) -> str:
    """What to say where a signal ended one of the processes, and torchrun the others therefore.

    Args:
        failures: torchrun's, by rank on this machine.
        status: the exit status of that process, the negative number of the signal.
    """
    rank = next(rank for rank, failure in failures.items() if failure.exitcode == status)
    name = signal.Signals(-status).name
    return (
        f'process {rank} of this machine was ended by {name}, as where memory is short, and the others '
        'therefore; to go on with a training, repeat the command with --resume, or set MAX_RESTARTS'
    )


def check_places(processes: int) -> None:
    """Check that this machine has a GPU for each process, or without GPUs a CPU core.

    Raises:
        UserError: it has fewer.
    """
    import torch

    places = torch.cuda.device_count() or len(os.sched_getaffinity(0))
    if processes > places:
        raise UserError(
            f'GPUS is {processes}, but this machine has room for {places} (a process a GPU, or without '
            f'GPUs one a CPU core); give at most {places}'
        )


def first_cause(statuses: list[int]) -> int:
    """The exit status that explains the others: of bad input, else of a failure, else of a signal.

    Args:
        statuses: of the processes that failed, or that torchrun ended since others had; negative for a
            signal.
    """
    if BAD_INPUT in statuses:
        return BAD_INPUT
    failures = [status for status in statuses if status not in ENDED]
    return (failures or statuses)[0]


if __name__ == '__main__':
    main()
