"""Work of a job in its own process: run missing trainings and tests, and read their output."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import submitit

from evaluation.sweep.decisions import Findings, look
from evaluation.sweep.launching import Node, Place, command_of, environment_of, run_to_its_end
from evaluation.sweep.record import (
    DONE,
    FAILED,
    INTERRUPTED,
    QUEUED,
    RUNNING,
    Identity,
    Lock,
    Record,
    change_record,
    own_process,
)
from evaluation.utils.formats import now
from evaluation.utils.interruption import STOPPING

LOG = 'output.log'
RUN_LOCK = '.sweep.lock'
# Longer than `is_locked` holds the lock.
SECONDS_FOR_THE_LOCK = 3.0
# Slurm kills a stopped job after the cluster's grace time at the latest.
SECONDS_TO_LINGER = 300.0
BY_SIGNAL = tuple(128 + number for number in STOPPING) + tuple(-number for number in STOPPING)
# submitit sends this signal before a job's time ends or another job preempts it.
REQUEUE = signal.SIGUSR2
TAIL_BYTES = 20_000
# torchrun puts `[rank0]:` before the lines of its processes.
REASON = re.compile(r'(\[rank\d+\]: *)?((error: .*)|([A-Za-z_][\w.]*(Error|Exception|Interrupt)\b.*))')
LONGEST = 300


@dataclass(frozen=True)
class RunTask:
    """Task of a job.

    Attributes:
        folder: work dir of the run.
        config: path of the config file.
        identity: identity of the run.
        train: options of `tools/train.py`; None for a test.
        test: options of `tools/test.py`.
        final: name of the final checkpoint of the training; None for a test.
        checkpoint: path of the tested checkpoint; None for a training.
    """

    folder: Path
    config: str
    identity: Identity
    train: tuple[str, ...] | None
    test: tuple[str, ...]
    final: str | None
    checkpoint: str | None = None


@dataclass
class Work:
    """One attempt at a run, called by submitit; called again after a requeue.

    Attributes:
        task: task of the job.
        place: where the job runs.
        token: id of the submission.
        lingers: whether to stay alive when stopped, so that Slurm can queue the job again.
        signals: signals received so far.
    """

    task: RunTask
    place: Place
    token: str
    lingers: bool = False
    signals: set[int] = field(default_factory=set, repr=False)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return the work for a restart of the job by Slurm, which resumes from the last checkpoint."""
        return submitit.helpers.DelayedSubmission(replace(self, signals=set()))

    def __call__(self) -> str:
        """Do the work and return the state of the run.

        Raises:
            SystemExit: status 1; the run failed or was interrupted.
        """
        node, requeue = this_node(), signal.getsignal(REQUEUE)
        self._note_signals()
        state = self._keep_books(node, requeue) if node.number == 0 else self._follow(node)
        if state == INTERRUPTED and self.lingers:
            time.sleep(SECONDS_TO_LINGER)
        if state in (FAILED, INTERRUPTED):
            sys.exit(1)
        return state

    def _keep_books(self, node: Node, requeue: Callable) -> str:
        """Do the work of the first machine of a job, usually the only one."""
        with Lock(self.task.folder / RUN_LOCK) as lock:
            if not lock.acquire(SECONDS_FOR_THE_LOCK):
                print(f'another job is running in {self.task.folder}', flush=True)
                return RUNNING
            if self._look().result:
                self._record(DONE, None)
                return DONE
            self._record_start()
            state, error = self._train_and_test(node, lock)
            self._record(state, error)
            if state == QUEUED:
                state, error = self._requeue(requeue)
                self._record(state, error)
            return state

    def _follow(self, node: Node) -> str:
        """Do the work of the other machines: take part in the training, and record failures."""
        if self.task.train is None or self._look().result:
            return DONE
        state, error = self._run('train', self._training(), node, None)
        if state == FAILED:
            self._record(state, f'on machine {node.number + 1} of {node.count}: {error}')
        return state

    def _requeue(self, handler: Callable) -> tuple[str, str | None]:
        """Let submitit requeue the job, which ends this process; if that fails, return the reason."""
        try:
            handler(REQUEUE, None)
        except submitit.core.utils.UncompletedJobError as error:
            return INTERRUPTED, str(error)
        return QUEUED, None

    def _note_signals(self) -> None:
        def note(number: int, _: FrameType | None) -> None:
            self.signals.add(number)

        for number in (*STOPPING, REQUEUE):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, note)

    def _look(self) -> Findings:
        return look(self.task.folder, self.task.identity, self.task.final)

    def _train_and_test(self, node: Node, lock: Lock) -> tuple[str, str | None]:
        """Run the missing training and test; return the final state and the reason for it.

        A finished training is resumed too, which verifies and evaluates its final checkpoint.
        """
        if self.task.train is not None:
            state, error = self._run('train', self._training(), node, lock)
            if state != DONE:
                return state, error
        if not self._look().result:
            checkpoint = self.task.checkpoint or str(self.task.folder / self.task.final)
            # Only the first of several machines tests.
            state, error = self._run('test', [checkpoint, *self.task.test], Node(), lock)
            if state != DONE:
                return state, error
        if not self._look().result:
            return FAILED, 'it exited normally, but wrote no result.json for this config, seed and data'
        return DONE, None

    def _training(self) -> list[str]:
        """Return the options of the training, which resumes from its last checkpoint."""
        return [*(['--resume'] if self._look().checkpoint else []), *self.task.train]

    def _run(
        self, script: str, arguments: list[str], node: Node, lock: Lock | None
    ) -> tuple[str, str | None]:
        """Run a command to its end, or until this job is asked to stop."""
        if self.signals:
            return self._stopped(), 'asked to stop'
        log_file = self.task.folder / (f'output_{node.number}.log' if node.number else LOG)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        with open(log_file, 'ab') as log:
            start = log.tell()
            status = run_to_its_end(
                command_of(script, self.task.config, arguments, self.place, node),
                environment_of(self.place, node, os.environ),
                log,
                # The command inherits the lock: the run is active while either process is alive.
                [lock.descriptor] if lock else [],
                lambda: bool(self.signals),
            )
        lines = tail(log_file, start)
        if status == 0:
            return DONE, None
        if self.signals:
            return self._stopped(), reason(lines)
        if status in BY_SIGNAL:
            return INTERRUPTED, reason(lines)
        if status < 0:
            return FAILED, f'killed by {signal.Signals(-status).name}, after: {reason(lines)}'
        return FAILED, reason(lines)

    def _stopped(self) -> str:
        return INTERRUPTED if self.signals & {*STOPPING} else QUEUED

    def _record_start(self) -> None:
        job = submitit.JobEnvironment().job_id
        ours = {'state': RUNNING, 'token': self.token, 'job': job, 'started': now(), **own_process()}
        change_record(self.task.folder, lambda record: replace(record, ended=None, error=None, **ours))

    def _record(self, state: str, error: str | None) -> None:
        """Record how this attempt ended, unless another submission has replaced it."""

        def change(record: Record | None) -> Record | None:
            if record is None or record.token != self.token or record.state in (DONE, FAILED):
                return None
            return replace(record, state=state, error=error, ended=now())

        change_record(self.task.folder, change)


def this_node() -> Node:
    """Return the number of this machine in its job."""
    environment = submitit.JobEnvironment()
    if environment.num_nodes == 1:
        return Node()
    first = os.environ.get('MASTER_ADDR') or environment.hostnames[0]
    return Node(environment.node, environment.num_nodes, first)


def tail(file: Path, start: int = 0) -> list[str]:
    """Return the last lines of a file from byte `start` on, without empty lines and rules."""
    try:
        with open(file, 'rb') as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(start, size - TAIL_BYTES))
            text = log.read().decode(errors='replace')
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip(' =-*')]


def reason(lines: list[str]) -> str:
    """Return the line that says why a command failed: its error, otherwise its last line."""
    found = [match[2] for line in lines if (match := REASON.fullmatch(line))]
    line = (found or lines or ['no output'])[-1]
    return line if len(line) <= LONGEST else f'{line[:LONGEST]}…'


def complaint(error: Exception) -> str:
    """Return the first line of the output of a failed command, otherwise of the exception."""
    said = getattr(error, 'stderr', None) or b''
    # After a timeout these are bytes even in text mode.
    text = said if isinstance(said, str) else said.decode(errors='replace')
    lines = [line.strip() for line in [*text.splitlines(), *str(error).splitlines()]]
    return next(filter(None, lines), 'no reason given')
