"""Whether a run is being worked at: by its lock, its process, Slurm's queue."""

import shutil
import subprocess
import time
from pathlib import Path

import submitit

from evaluation.sweep.locks import is_locked
from evaluation.sweep.log import complaint
from evaluation.sweep.record import (
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    Record,
    is_process_of,
)
from evaluation.sweep.work import RUN_LOCK
from evaluation.utils.errors import UserError

# `squeue` burdens the one controller of a cluster; what jobs note themselves is seen without it.
SQUEUE_SECONDS = 15.0
SECONDS_TO_ANSWER = 60


class Liveness:
    """Tells which runs have a job that is queued, starting or at work."""

    def __init__(self) -> None:
        self._queue = Queue()
        self._started: dict[str, submitit.Job] = {}

    def note_started(self, token: str, job: submitit.Job) -> None:
        """Remember a local job of this command's own, whose end is known at once."""
        self._started[token] = job

    def note_queued(self, job_id: str) -> None:
        """Remember a job that Slurm has just taken."""
        self._queue.add(job_id)

    def is_alive(self, folder: Path, record: Record | None) -> bool:
        """Whether a run is in work, or will be without anybody starting it.

        Args:
            folder: of the run.
            record: what it says.

        Raises:
            UserError: Slurm has the job, and cannot be asked here.
        """
        if is_locked(folder / RUN_LOCK):
            return True
        if record is None or record.state in (DONE, FAILED):
            return False
        if record.executor == 'slurm':
            # Also of an interrupted one: Slurm may start it again.
            return record.job is not None and self._queue.has(record.job)
        if record.state not in (QUEUED, RUNNING):
            return False
        job = self._started.get(record.token)
        return not job.done() if job else is_process_of(record)


class Queue:
    """The jobs of this user that Slurm has queued or running."""

    def __init__(self) -> None:
        self._jobs: set[str] = set()
        self._read_at: float | None = None

    def add(self, job_id: str) -> None:
        """Count a job that was submitted since the queue was read."""
        self._jobs.add(job_id)

    def has(self, job_id: str) -> bool:
        """Whether a job, or an element `<job>_<number>` of an array, is in the queue.

        Raises:
            UserError: Slurm has never answered.
        """
        if self._read_at is None or time.monotonic() - self._read_at > SQUEUE_SECONDS:
            self._read()
        return job_id in self._jobs

    def _read(self) -> None:
        if shutil.which('squeue') is None:
            raise UserError(
                'its job is with Slurm, and squeue is not here; run this on a machine of the cluster'
            )
        command = ['squeue', '--me', '--array', '--noheader', '--format=%i']
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True
            )
            self._jobs = set(done.stdout.split())
        except (OSError, subprocess.SubprocessError) as error:
            if self._read_at is None:
                raise UserError(
                    f'squeue does not answer ({complaint(error)}); try again when Slurm is there'
                ) from error
            # A controller that is away for a moment: what it said last still holds.
        self._read_at = time.monotonic()
