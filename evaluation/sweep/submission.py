"""Claiming a run before it is submitted, so that no two sweeps submit it."""

import uuid
from dataclasses import dataclass, replace

from evaluation.sweep.identity import differences
from evaluation.sweep.record import INTERRUPTED, QUEUED, Record, change_record
from evaluation.sweep.runs import Run
from evaluation.utils.times import now


@dataclass(frozen=True)
class Start:
    """A run that waits to be started.

    Attributes:
        run: which.
        attempt: the number of the attempt that this will be.
        seen: its record when that was decided.
    """

    run: Run
    attempt: int
    seen: Record | None


@dataclass(frozen=True)
class Claim:
    """A run that this command submits, and nobody else.

    Attributes:
        run: which.
        token: name of this submission.
    """

    run: Run
    token: str


def claim(wanted: Start, executor: str, devices: tuple[str, ...] = ()) -> Claim | None:
    """Note that a run is queued; None where another command did since the record was seen.

    Nor is a run claimed in whose folder there is another one.
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
    """Add to the record which job it became, unless that has noted itself by now."""

    def change(record: Record | None) -> Record | None:
        if record is None or record.token != ours.token or record.state != QUEUED:
            return None
        return replace(record, **facts)

    change_record(ours.run.task.folder, change)


def withdraw(ours: Claim, error: str) -> None:
    """Note that a claimed run could not be submitted."""
    note_submitted(ours, state=INTERRUPTED, error=error, ended=now())
