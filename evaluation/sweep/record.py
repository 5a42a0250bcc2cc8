"""Identity of a run, and `sweep.json`, the record of its last attempt, with the lock that guards it."""

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
    'data_sha256': 'the data to evaluate on',
    'seed': 'the seed',
    'training_data_sha256': 'the training data',
    'start': 'the start',
    'start_sha256': 'the file of the starting weights',
    'batch_size': 'the number of images a step',
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
    """A run's config, data, start and options; equal identities compute the same.

    Attributes:
        config_sha256: of all settings, overrides included.
        data_sha256: of the data to evaluate on.
        seed: None in a test alone, whose checkpoint has one.
        training_data_sha256: None in a test alone.
        start: `scratch`, or path or URL of the weights; None in a test alone.
        start_sha256: of the file of the weights, None for a URL.
        batch_size: images a step, of all processes together; None in a test alone.
        options: those of the command line that change what is computed, such as `--amp`.
        checkpoint_sha256: what is tested, in a test alone.
        config_sha256_version_1: the digest of the same config in runs of earlier versions.
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
    """A lock on a file, for one holder at a time.

    It belongs to the open file: a child process that is given `descriptor` holds it too, until it ends.
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
    """Return whether any process holds the lock on a file; write nothing.

    The check takes a shared lock for a moment, so a process that wants the lock must retry for longer
    than that.

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
            f'{path.parent}: this file system has no locks (flock), without which a run could be '
            'started twice; give --work-dir on another'
        ) from error


@dataclass(frozen=True)
class Record:
    """The last attempt at a run.

    Attributes:
        identity: what the run is.
        state: one of `STATES`.
        attempt: 1, or 2 after a failure.
        token: identifies the submission.
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
    """Replace the record by the result of `change` (None: keep it) while holding the lock."""
    with Lock(folder / LOCK) as lock:
        if not lock.acquire(SECONDS_FOR_A_CHANGE):
            raise UserError(f'{folder / LOCK} is held by a process that hangs; end it')
        record = change(read_record(folder))
        if record is not None:
            write_json(folder / FILE, {'schema_version': SCHEMA_VERSION, **asdict(record)})


def this_host() -> str:
    """Return the name of this machine."""
    return socket.gethostname()


def is_process_of(record: Record) -> bool:
    """Return whether the process of a record is alive here; a reused process id does not count."""
    if record.pid is None or record.host != this_host():
        return False
    # None: the process ended before its start could be noted.
    return record.process_started is not None and record.process_started == process_started(record.pid)


def own_process() -> dict[str, object]:
    """Return the fields of a record that identify this process."""
    pid = os.getpid()
    return {'host': this_host(), 'pid': pid, 'process_started': process_started(pid)}
