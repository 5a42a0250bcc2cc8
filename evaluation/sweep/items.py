"""Where the runs of a sweep are, and what comes next for each."""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from evaluation.engine.experiment import check_work_dir
from evaluation.engine.machine_faults import machine_faults_reported
from evaluation.sweep import record as records
from evaluation.sweep.findings import look
from evaluation.sweep.liveness import Liveness
from evaluation.sweep.planning import ATTEMPTS, FINISHED, REFUSED, RUNS, Decision, decide
from evaluation.sweep.record import Record, change_record, read_record
from evaluation.sweep.runs import Run
from evaluation.sweep.submission import Start
from evaluation.utils.errors import UserError
from evaluation.utils.times import now

WAITING, ACTIVE, DONE, FAILED, INTERRUPTED = 'waiting', 'active', 'done', 'failed', 'interrupted'
SETTLED = (DONE, FAILED, INTERRUPTED, REFUSED)
LOST = 'its job ended without a word: killed, out of memory, or the machine went down'


@dataclass
class Item:
    """One run of a sweep, and where it is.

    Attributes:
        name: what messages call it.
        run: None where its config, data or start are wrong.
        decision: what was to be done at first.
        state: one of the words above.
        record: what its folder said last.
        attempt: number of the last attempt; 0 before the first.
        is_adopted: whether another command started it.
        note: what there is to say.
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
        """The state in words, of a run in work that of its job."""
        if self.state != ACTIVE:
            return self.state
        state = self.record.state if self.record else records.RUNNING
        return state if self.attempt < 2 else f'{state} again'

    def seconds(self) -> float | None:
        """How long the last attempt has run, None before it did."""
        if self.record is None or self.record.started is None or self.state == WAITING:
            return None
        end = self.record.ended or now()
        return (_time(end) - _time(self.record.started)).total_seconds()

    def started(self) -> float:
        """When the job of the last attempt started, in seconds since 1970; infinite before it did."""
        if self.record is None or self.record.state == records.QUEUED or self.record.started is None:
            return math.inf
        return _time(self.record.started).timestamp()

    def start(self) -> Start:
        """The next attempt."""
        return Start(self.run, self.attempt + 1, self.record)

    def refuse(self, why: str) -> None:
        """Leave it alone."""
        self.state, self.note = REFUSED, why


def planned(run: Run, liveness: Liveness) -> Item:
    """Decide what is to be done about a run."""
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
    """A run that cannot be done."""
    return Item(name, None, Decision(REFUSED, why), REFUSED, note=why)


def observe(item: Item, liveness: Liveness, goes_on_with_interrupted: bool) -> None:
    """See what became of a run in work.

    Args:
        item: changed.
        liveness: tells whether there is a job.
        goes_on_with_interrupted: whether one that another command started and that was interrupted is
            to be gone on with.
    """
    task = item.run.task
    item.record = read_record(task.folder)
    is_alive = liveness.is_alive(task.folder, item.record)
    if item.record:
        item.attempt = item.record.attempt
    if is_alive and (item.record is None or item.record.state != records.DONE):
        return
    # Only now: it may have ended between the two looks above.
    item.record = read_record(task.folder)
    state = item.record.state if item.record else records.RUNNING
    if look(task.folder, task.identity, task.final).result:
        item.state, item.note = DONE, None
    elif state == records.INTERRUPTED and not (item.is_adopted and goes_on_with_interrupted):
        item.state, item.note = INTERRUPTED, item.record.error
    elif state == records.INTERRUPTED:
        # The same attempt goes on: an interruption is no failure.
        item.attempt = item.record.attempt - 1
        _wait(item)
    else:
        if state in (records.QUEUED, records.RUNNING):
            _note_loss(item)
        item.note = item.record.error if item.record else LOST
        if item.attempt < ATTEMPTS:
            _wait(item)
        else:
            item.state = FAILED


def _wait(item: Item) -> None:
    item.state, item.is_adopted = WAITING, False


def _note_loss(item: Item) -> None:
    """Note in its record that a job ended without doing so."""
    seen = item.record

    def change(record: Record | None) -> Record | None:
        if record != seen or record is None:
            return None
        return replace(record, state=records.FAILED, error=LOST, ended=now())

    change_record(item.run.task.folder, change)
    item.record = read_record(item.run.task.folder)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(timezone.utc)
