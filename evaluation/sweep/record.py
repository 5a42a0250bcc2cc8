"""Identity of a run, and `sweep.json`, the locked record of its last attempt."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.sweep.launching import process_started
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_json

SHOWN_DIGITS = 8
# Names of the fields in messages.
NAMES_OF_PARTS = {
    'config_sha256': 'the config',
    'data_sha256': 'the evaluation data',
    'seed': 'the seed',
    'training_data_sha256': 'the training data',
    'start': 'the initial weights',
    'start_sha256': 'the file of the initial weights',
    'batch_size': 'the batch size',
    'options': 'the options',
    'checkpoint_sha256': 'the checkpoint',
}
LOCK_POLL_SECONDS = 0.05
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
FILE = 'sweep.json'
LOCK = '.sweep.json.lock'
SCHEMA_VERSION = 1
# Changes take milliseconds; a longer wait means that a process hangs.
SECONDS_FOR_A_CHANGE = 60.0
QUEUED, RUNNING, DONE, FAILED, INTERRUPTED = 'queued', 'running', 'done', 'failed', 'interrupted'
STATES = (QUEUED, RUNNING, DONE, FAILED, INTERRUPTED)


@dataclass(frozen=True)
class Identity:
    """Config, data, initial weights and options of a run; equal identities compute the same.

    Attributes:
        config_sha256: digest of all settings, including overrides.
        data_sha256: digest of the evaluation data.
        seed: random seed; None for a test.
        training_data_sha256: digest of the training data; None for a test.
        start: `scratch`, or path or URL of the initial weights; None for a test.
        start_sha256: digest of the file of the initial weights; None for a URL.
        batch_size: images per step over all processes; None for a test.
        options: command-line options that change what is computed, such as `--amp`.
        checkpoint_sha256: digest of the tested checkpoint; None for a training.
        config_sha256_version_1: digest of the same config in runs of earlier versions.
    """

    config_sha256: str
    data_sha256: str
    seed: int | None = None
    training_data_sha256: str | None = None
    start: str | None = None
    start_sha256: str | None = None
    batch_size: int | None = None
    options: tuple[str, ...] = ()
    checkpoint_sha256: str | None = None
    config_sha256_version_1: str | None = None

    @property
    def is_test(self) -> bool:
        """Whether the run tests a checkpoint and does not train."""
        return self.checkpoint_sha256 is not None

    def has_config(self, digest: object) -> bool:
        """Return whether a digest is one of this config, in any version."""
        return digest is not None and digest in (self.config_sha256, self.config_sha256_version_1)


def differences(wanted: Identity, found: Identity) -> Iterator[str]:
    """Describe each difference between two runs."""
    for field, name in NAMES_OF_PARTS.items():
        ours, theirs = getattr(wanted, field), getattr(found, field)
        is_same = wanted.has_config(theirs) if field == 'config_sha256' else ours == theirs
        if not is_same:
            yield f'{name} ({_short(theirs)} there, {_short(ours)} here)'


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return ' '.join(value) or 'none'
    if value is None:
        return 'none'
    is_digest = isinstance(value, str) and len(value) == 64 and set(value) <= set('0123456789abcdef')
    return value[:SHOWN_DIGITS] if is_digest else str(value)


class Lock:
    """Exclusive lock on a file.

    The lock belongs to the open file, so a child process that inherits `descriptor` also holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def acquire(self, seconds: float = 0.0) -> bool:
        """Take the lock; return False if another process still holds it after `seconds`.

        Raises:
            UserError: the file system has no locks.
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + seconds
        while not _try(descriptor, self.path, fcntl.LOCK_EX):
            if time.monotonic() >= end:
                os.close(descriptor)
                return False
            time.sleep(LOCK_POLL_SECONDS)
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        """Release the lock; children that inherited the descriptor keep it."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def __exit__(self, *_: object) -> None:
        self.release()

    def __enter__(self) -> 'Lock':
        return self


def is_locked(path: Path) -> bool:
    """Return whether any process holds the lock on a file, without writing.

    The check briefly takes a shared lock, so processes that want the lock must retry for longer than
    that.

    Raises:
        UserError: the file system has no locks.
        OSError: the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try(descriptor, path, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try(descriptor: int, path: Path, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise UserError(
            f'the file system of {path.parent} has no locks (flock), so a run could be started '
            'twice; give a --work-dir on another file system'
        ) from error


@dataclass(frozen=True)
class Record:
    """Last attempt at a run.

    Attributes:
        identity: identity of the run.
        state: one of `STATES`.
        attempt: number of the attempt: 1, or 2 after a failure.
        token: id of the submission.
        executor: `local` or `slurm`.
        job: submitit's job id; None until the job is submitted.
        host: machine of the sweep, then of the job.
        pid: process to signal on that machine.
        process_started: start time of that process, in ticks since boot.
        devices: GPUs reserved for a local job.
        submitted: time of submission (ISO 8601, like all times here).
        started: start time; None before the job runs.
        ended: end time; None before the job has ended.
        error: reason for a failure or interruption, in one line.
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
    """Read the record in the folder of a run; return None if there is none.

    Raises:
        UserError: the record is unreadable or from a different version.
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
            f'{file} is not a record of this version of the suite; give another --work-dir'
        ) from error


def change_record(folder: Path, change: Callable[[Record | None], Record | None]) -> None:
    """Replace the record by the result of `change` (None: keep it) while holding the lock."""
    with Lock(folder / LOCK) as lock:
        if not lock.acquire(SECONDS_FOR_A_CHANGE):
            raise UserError(f'{folder / LOCK} is locked by a hanging process; kill it')
        record = change(read_record(folder))
        if record is not None:
            write_json(folder / FILE, {'schema_version': SCHEMA_VERSION, **asdict(record)})


def this_host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def is_process_of(record: Record) -> bool:
    """Return whether the process of a record is alive on this machine; detect reused process ids."""
    if record.pid is None or record.host != this_host():
        return False
    # None: the process ended before its start could be noted.
    return record.process_started is not None and record.process_started == process_started(record.pid)


def own_process() -> dict[str, object]:
    """Return the fields of a record that identify this process."""
    pid = os.getpid()
    return {'host': this_host(), 'pid': pid, 'process_started': process_started(pid)}
