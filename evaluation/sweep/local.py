"""Jobs on this machine, as many at a time as there are places; they survive the end of the sweep."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import submitit

from evaluation.sweep.launching import Place
from evaluation.sweep.liveness import Liveness
from evaluation.sweep.locks import Lock
from evaluation.sweep.processes import process_started
from evaluation.sweep.record import Record, is_process_of, read_record, this_host
from evaluation.sweep.running import SECONDS_TO_STOP
from evaluation.sweep.runs import Run
from evaluation.sweep.signals import children_detached
from evaluation.sweep.submission import Claim, Start, claim, note_submitted, withdraw
from evaluation.sweep.work import Work
from evaluation.utils.errors import UserError

# submitit ends a local job after this; ours end by themselves.
MINUTES = 10 * 366 * 24 * 60
POLL_SECONDS = 0.2
AGAIN_SECONDS = 1.0
SUBMITIT = '.submitit'
ROOT_LOCK = '.sweep.lock'


def hold(root: Path) -> Lock:
    """Take the lock on a folder of work dirs, in which one sweep of this kind works at a time.

    Raises:
        UserError: another has it.
    """
    lock = Lock(root / ROOT_LOCK)
    if not lock.acquire():
        raise UserError(
            f'another sweep is at work in {root}; wait for its end, or give another --work-dir '
            '(--dry-run tells how far it is)'
        )
    return lock


class LocalExecutor:
    """Starts jobs on this machine through submitit, where no other sweep of the same folder does.

    Args:
        root: folder of all work dirs, which `hold` has taken.
        places: where jobs run; one at a time in each.
        liveness: to be told of every job.
    """

    name = 'local'
    poll_seconds = 0.5
    # Who repeats the command while jobs are stopping wants them to go on.
    goes_on_with_interrupted = True

    def __init__(self, root: Path, places: Sequence[Place], liveness: Liveness) -> None:
        self._places = places
        self._liveness = liveness
        self._taken: dict[Path, list[Place]] = {}
        self._executor = submitit.LocalExecutor(root / SUBMITIT)
        self._executor.update_parameters(timeout_min=MINUTES, stderr_to_stdout=True)

    def start(self, waiting: Sequence[Start], active: Sequence[Run]) -> list[Claim]:
        """Start the first of some runs, as many as there are free places.

        Args:
            waiting: what is to be started.
            active: what is in work.
        """
        self._seat(active)
        claims = []
        for wanted, place in zip(waiting, self._free(), strict=False):
            ours = claim(wanted, self.name, place.devices or ())
            if ours is None:
                continue
            self._taken[ours.run.task.folder] = [place]
            with children_detached():
                job = self._executor.submit(Work(ours.run.task, place, ours.token))
            self._liveness.note_started(ours.token, job)
            pid = int(job.job_id)
            note_submitted(
                ours, job=job.job_id, host=this_host(), pid=pid, process_started=process_started(pid)
            )
            claims.append(ours)
        return claims

    def interrupt(self, active: Sequence[Run]) -> str:
        """Ask all jobs to stop, wait until they have and note it; say what became of them."""
        end, asked = time.monotonic() + SECONDS_TO_STOP + 10, 0.0
        left = list(active)
        while left and time.monotonic() < end:
            if time.monotonic() - asked > AGAIN_SECONDS:
                # Again, for one that was just about to note whom to signal.
                asked = time.monotonic()
                _ask_to_stop(left)
            time.sleep(POLL_SECONDS)
            left = [run for run in left if self._is_alive(run)]
        for run in active:
            record = read_record(run.task.folder)
            if record and run not in left:
                # One that had begun has noted it itself.
                withdraw(Claim(run, record.token), 'asked to stop before it began')
        if left:
            return f'{", ".join(run.name for run in left)} did not stop in {SECONDS_TO_STOP:.0f} s'
        return f'{len(active)} running jobs were stopped'

    def _is_alive(self, run: Run) -> bool:
        return self._liveness.is_alive(run.task.folder, read_record(run.task.folder))

    def _seat(self, active: Sequence[Run]) -> None:
        """Free the places of what has ended, and give places to jobs of an earlier sweep."""
        folders = {run.task.folder for run in active}
        self._taken = {folder: places for folder, places in self._taken.items() if folder in folders}
        for folder in folders - self._taken.keys():
            self._taken[folder] = self._places_of(read_record(folder))

    def _places_of(self, record: Record | None) -> list[Place]:
        """Places that a job of an earlier sweep keeps busy: those with its GPUs, else any."""
        free, devices = self._free(), set(record.devices) if record else set()
        return [place for place in free if devices & set(place.devices or ())] or free[:1]

    def _free(self) -> list[Place]:
        taken = [place for places in self._taken.values() for place in places]
        return [place for place in self._places if place not in taken]


def _ask_to_stop(runs: Sequence[Run]) -> None:
    for run in runs:
        record = read_record(run.task.folder)
        if record and is_process_of(record):
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGTERM)
