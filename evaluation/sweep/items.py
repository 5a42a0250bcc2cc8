"""State of each run of a sweep: claims before submission, liveness of jobs, and the next step."""

import math
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import submitit

from evaluation.engine.experiment import check_work_dir
from evaluation.engine.faults import machine_faults_reported
from evaluation.sweep.decisions import ATTEMPTS, FINISHED, REFUSED, RUNS, Decision, decide, look
from evaluation.sweep.record import (
    DONE,
    FAILED,
    INTERRUPTED,
    QUEUED,
    RUNNING,
    Record,
    change_record,
    differences,
    is_locked,
    is_process_of,
    read_record,
)
from evaluation.sweep.runs import Run
from evaluation.sweep.work import RUN_LOCK, complaint
from evaluation.utils.errors import UserError
from evaluation.utils.formats import now

# Ask `squeue` rarely, since it burdens the cluster's controller.
SQUEUE_SECONDS = 15.0
SECONDS_TO_ANSWER = 60
# States in addition to those of a record.
WAITING, ACTIVE = 'waiting', 'active'
SETTLED = (DONE, FAILED, INTERRUPTED, REFUSED)
LOST = 'its job ended without an error message: killed, out of memory, or the machine went down'


@dataclass(frozen=True)
class Start:
    """A run that waits to be started.

    Attributes:
        run: run to start.
        attempt: number of the new attempt.
        seen: record of the run when it was planned.
    """

    run: Run
    attempt: int
    seen: Record | None


@dataclass(frozen=True)
class Claim:
    """A run that only this command may submit.

    Attributes:
        run: claimed run.
        token: id of this submission.
    """

    run: Run
    token: str


def claim(wanted: Start, executor: str, devices: tuple[str, ...] = ()) -> Claim | None:
    """Record that a run is queued; return None if another command was faster.

    A run is not claimed either if its folder contains a different run.
    """
    ours, identity = Claim(wanted.run, uuid.uuid4().hex), wanted.run.task.identity
    claimed = []

    def change(record: Record | None) -> Record | None:
        if (record and record.token) != (wanted.seen and wanted.seen.token):
            return None
        if record and any(differences(identity, record.identity)):
            return None
        claimed.append(ours)
        return Record(
            identity=identity,
            state=QUEUED,
            attempt=wanted.attempt,
            token=ours.token,
            executor=executor,
            devices=devices,
            submitted=now(),
        )

    change_record(wanted.run.task.folder, change)
    return ours if claimed else None


def note_submitted(ours: Claim, **facts: object) -> None:
    """Add facts about the job to the record, unless the job has already recorded itself."""

    def change(record: Record | None) -> Record | None:
        if record is None or record.token != ours.token or record.state != QUEUED:
            return None
        return replace(record, **facts)

    change_record(ours.run.task.folder, change)


def withdraw(ours: Claim, error: str) -> None:
    """Record that a claimed run could not be submitted."""
    note_submitted(ours, state=INTERRUPTED, error=error, ended=now())


class Liveness:
    """Check which runs have a job that is queued, starting or running."""

    def __init__(self) -> None:
        self._queue = Queue()
        self._started: dict[str, submitit.Job] = {}

    def note_started(self, token: str, job: submitit.Job) -> None:
        """Remember a local job of this command, whose end is known at once."""
        self._started[token] = job

    def note_queued(self, job_id: str) -> None:
        """Remember a job that Slurm has just accepted."""
        self._queue.add(job_id)

    def is_alive(self, folder: Path, record: Record | None) -> bool:
        """Return whether a run is active, or will be without being started again.

        Args:
            folder: folder of the run.
            record: record of the run.

        Raises:
            UserError: the job is on Slurm, which cannot be queried here.
        """
        if is_locked(folder / RUN_LOCK):
            return True
        if record is None or record.state in (DONE, FAILED):
            return False
        if record.executor == 'slurm':
            # This includes interrupted jobs: Slurm may restart them.
            return record.job is not None and self._queue.has(record.job)
        if record.state not in (QUEUED, RUNNING):
            return False
        job = self._started.get(record.token)
        return not job.done() if job else is_process_of(record)


class Queue:
    """Queued and running Slurm jobs of this user."""

    def __init__(self) -> None:
        self._jobs: set[str] = set()
        self._read_at: float | None = None

    def add(self, job_id: str) -> None:
        """Add a job that was submitted since the queue was read."""
        self._jobs.add(job_id)

    def has(self, job_id: str) -> bool:
        """Return whether a job, or an element `<job>_<number>` of an array, is in the queue.

        Raises:
            UserError: Slurm has never answered.
        """
        if self._read_at is None or time.monotonic() - self._read_at > SQUEUE_SECONDS:
            self._read()
        return job_id in self._jobs

    def _read(self) -> None:
        if shutil.which('squeue') is None:
            raise UserError(
                'its job is on Slurm, but squeue was not found; run this on a machine of the cluster'
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
                    f'squeue does not answer ({complaint(error)}); try again when Slurm is available'
                ) from error
            # The controller is briefly unavailable: its last answer still holds.
        self._read_at = time.monotonic()


@dataclass
class Item:
    """One run of a sweep and its state.

    Attributes:
        name: name in messages.
        run: the run; None if its config, data or initial weights are invalid.
        decision: decision made when the sweep began.
        state: `WAITING`, `ACTIVE` or one of `SETTLED`.
        record: last record read from its folder.
        attempt: number of the last attempt; 0 before the first.
        is_adopted: whether another command started it.
        note: reason for the state.
    """

    name: str
    run: Run | None
    decision: Decision
    state: str
    record: Record | None = None
    attempt: int = 0
    is_adopted: bool = False
    note: str | None = None

    @property
    def phase(self) -> str:
        """State in words; for an active run, the state of its job."""
        if self.state != ACTIVE:
            return self.state
        state = self.record.state if self.record else RUNNING
        return state if self.attempt < 2 else f'{state} again'

    def seconds(self) -> float | None:
        """Return the duration of the last attempt; None before it has started."""
        if self.record is None or self.record.started is None or self.state == WAITING:
            return None
        end = self.record.ended or now()
        return (_time(end) - _time(self.record.started)).total_seconds()

    def started(self) -> float:
        """Return when the last job started, in seconds since 1970; infinity before that."""
        if self.record is None or self.record.state == QUEUED or self.record.started is None:
            return math.inf
        return _time(self.record.started).timestamp()

    def start(self) -> Start:
        """Return the next attempt."""
        return Start(self.run, self.attempt + 1, self.record)

    def refuse(self, why: str) -> None:
        """Refuse to start the run."""
        self.state, self.note = REFUSED, why


def planned(run: Run, liveness: Liveness) -> Item:
    """Decide what to do about a run."""
    task = run.task
    try:
        with machine_faults_reported(str(task.folder)):
            record = read_record(task.folder)
            is_alive = liveness.is_alive(task.folder, record)
            findings = look(task.folder, task.identity, task.final)
        decision = decide(task.folder, task.identity, record, findings, is_alive)
        if decision.attempts:
            check_work_dir(task.folder)
    except UserError as error:
        return refused(run.name, str(error))
    if decision.action == REFUSED:
        return refused(run.name, decision.reason)
    item = Item(run.name, run, decision, WAITING, record)
    if decision.action == FINISHED:
        item.state, item.note = DONE, 'finished before'
    elif decision.action == RUNS:
        item.state, item.is_adopted = ACTIVE, True
        item.attempt = record.attempt if record else 1
    else:
        item.attempt = ATTEMPTS - decision.attempts
    return item


def refused(name: str, why: str) -> Item:
    """Return an item for a run that cannot be done."""
    return Item(name, None, Decision(REFUSED, why), REFUSED, note=why)


def observe(item: Item, liveness: Liveness, goes_on_with_interrupted: bool) -> None:
    """Update the state of an active run.

    Args:
        item: changed in place.
        liveness: tracker of the jobs.
        goes_on_with_interrupted: whether to resume an interrupted run that another command started.
    """
    task = item.run.task
    item.record = read_record(task.folder)
    is_alive = liveness.is_alive(task.folder, item.record)
    if item.record:
        item.attempt = item.record.attempt
    if is_alive and (item.record is None or item.record.state != DONE):
        return
    # Read again: the job may have ended between the two checks above.
    item.record = read_record(task.folder)
    state = item.record.state if item.record else RUNNING
    if look(task.folder, task.identity, task.final).result:
        item.state, item.note = DONE, None
    elif state == INTERRUPTED and not (item.is_adopted and goes_on_with_interrupted):
        item.state, item.note = INTERRUPTED, item.record.error
    elif state == INTERRUPTED:
        # The attempt number stays: an interruption is not a failure.
        item.attempt = item.record.attempt - 1
        _wait(item)
    else:
        if state in (QUEUED, RUNNING):
            _note_loss(item)
        item.note = item.record.error if item.record else LOST
        if item.attempt < ATTEMPTS:
            _wait(item)
        else:
            item.state = FAILED


def _wait(item: Item) -> None:
    item.state, item.is_adopted = WAITING, False


def _note_loss(item: Item) -> None:
    """Record the failure of a job that ended without recording it."""
    seen = item.record

    def change(record: Record | None) -> Record | None:
        if record != seen or record is None:
            return None
        return replace(record, state=FAILED, error=LOST, ended=now())

    change_record(item.run.task.folder, change)
    item.record = read_record(item.run.task.folder)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(timezone.utc)
