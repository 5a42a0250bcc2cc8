"""Running a command of a job to its end, with all that it starts."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from evaluation.sweep.processes import adopt_orphans, end_descendants

POLL_SECONDS = 0.1
# A training that was asked to stop ends within seconds; Slurm grants 30 by default.
SECONDS_TO_STOP = 25.0


def run_to_its_end(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: BinaryIO,
    descriptors: Sequence[int],
    is_asked_to_stop: Callable[[], bool],
    seconds_to_stop: float = SECONDS_TO_STOP,
) -> int:
    """Run a command; once it has ended, so has every process that came of it, whoever started that.

    torchrun's processes lead sessions of their own, and it waits 30 s for those that do not stop.

    Args:
        command: program and arguments.
        environment: of it.
        log: takes its output.
        descriptors: open files that it is given.
        is_asked_to_stop: whether this job is; the command then is as well.
        seconds_to_stop: after which it is killed.

    Returns:
        the exit status, negative for a signal.
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
