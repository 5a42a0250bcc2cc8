"""What a run's folder says of its last attempt: `sweep.json`, written whole at every change."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.sweep.identity import Identity
from evaluation.sweep.locks import Lock
from evaluation.sweep.processes import process_started
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_json

FILE = 'sweep.json'
LOCK = '.sweep.json.lock'
SCHEMA_VERSION = 1
# Changes take milliseconds; who cannot make one for so long has met something else.
SECONDS_FOR_A_CHANGE = 60.0

QUEUED, RUNNING, DONE, FAILED, INTERRUPTED = 'queued', 'running', 'done', 'failed', 'interrupted'
STATES = (QUEUED, RUNNING, DONE, FAILED, INTERRUPTED)


@dataclass(frozen=True)
class Record:
    """The last attempt at a run.

    Attributes:
        identity: what the run is.
        state: one of `STATES`.
        attempt: 1, or 2 after a failure.
        token: which submission this is about.
        executor: `local` or `slurm`.
        job: submitit's job id; None until it is submitted.
        host: machine of the sweep, then of the job.
        pid: process to signal, on that machine.
        process_started: when that process started, in ticks since the machine did.
        devices: GPUs that a local job has for itself.
        submitted: time, ISO 8601, as all times here.
        started: time; None until it runs.
        ended: time; None until it has ended.
        error: the line that says why it failed or was interrupted.
    """

    identity: Identity
    state: str
    attempt: int
    token: str
    executor: str
    job: str | None = None
    host: str | None = None
    pid: int | None = None
    process_started: int | None = None
    devices: tuple[str, ...] = ()
    submitted: str | None = None
    started: str | None = None
    ended: str | None = None
    error: str | None = None


def read_record(folder: Path) -> Record | None:
    """Read the record of a run's folder, None where it has none.

    Raises:
        UserError: it is no such record.
    """
    file = folder / FILE
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f'{file} cannot be read ({error}); give another --work-dir') from error
    try:
        if content.pop('schema_version') != SCHEMA_VERSION or content['state'] not in STATES:
            raise ValueError
        identity = content.pop('identity')
        identity['options'] = tuple(identity['options'])
        content['devices'] = tuple(content['devices'])
        return Record(identity=Identity(**identity), **content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{file} is no record of this version of the suite; give another --work-dir'
        ) from error


def change_record(folder: Path, change: Callable[[Record | None], Record | None]) -> None:
    """Replace the record by what `change` makes of it, None to leave it; nobody else can meanwhile."""
    with Lock(folder / LOCK) as lock:
        if not lock.acquire(SECONDS_FOR_A_CHANGE):
            raise UserError(f'{folder / LOCK} is held by a process that hangs; end it')
        record = change(read_record(folder))
        if record is not None:
            write_json(folder / FILE, {'schema_version': SCHEMA_VERSION, **asdict(record)})


def this_host() -> str:
    """Name of this machine."""
    return socket.gethostname()


def is_process_of(record: Record) -> bool:
    """Whether the process of a record is alive on this machine; another of the same number is not it."""
    if record.pid is None or record.host != this_host():
        return False
    # None: it had ended before it was noted.
    return record.process_started is not None and record.process_started == process_started(record.pid)


def own_process() -> dict[str, object]:
    """Fields of a record that name this process."""
    pid = os.getpid()
    return {'host': this_host(), 'pid': pid, 'process_started': process_started(pid)}
