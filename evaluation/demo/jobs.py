"""Run the commands of the demonstration, several at a time, with progress and an estimate of the end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.utils.errors import UserError
from evaluation.utils.formats import clock
from evaluation.utils.scalars import latest_step

POLL_SECONDS = 0.5
REPORT_SECONDS = 15.0
TRAINING = 'tools/train.py'


@dataclass
class Job:
    """One run of a command.

    Attributes:
        name: what progress calls it.
        arguments: of the command.
        folder: its work dir, which also gets the output.
        steps: iterations that it will train for, or how long it takes beside others.
        script: the command.
        log: name of the file with the output.
    """

    name: str
    arguments: list[str]
    folder: Path
    steps: int
    script: str = TRAINING
    log: str = 'output.log'
    process: subprocess.Popen | None = field(default=None, repr=False)
    started: float = 0.0

    def start(self, threads: int) -> None:
        """Start the process with so many threads."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, self.script, *self.arguments, '--work-dir', str(self.folder)]
        environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
        self.started = time.monotonic()
        with open(self.folder / self.log, 'w', encoding='utf-8') as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )

    def steps_done(self) -> int:
        """Iterations so far, from the scalars that a training writes; other commands write none."""
        if self.script != TRAINING:
            return 0
        return latest_step(self.folder).done

    def check(self) -> None:
        """Raise if the process has failed.

        Raises:
            UserError: it did; the message has the last lines of its output.
        """
        if self.process.returncode:
            tail = (self.folder / self.log).read_text().splitlines()[-15:]
            print('\n'.join(tail), file=sys.stderr)
            raise UserError(f'{self.name} failed; its whole output is in {self.folder / self.log}')


def run_jobs(jobs: Sequence[Job], parallel: int, threads: int, on_done: Callable[[Job], None]) -> None:
    """Run all jobs, at most `parallel` at a time, each with so many threads.

    `on_done` is called with each job as soon as it has succeeded.

    Raises:
        UserError: one of them failed; the others are stopped.
    """
    waiting, running, done = list(jobs), [], []
    started = reported = time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                running.append(waiting.pop(0))
                running[-1].start(threads)
            time.sleep(POLL_SECONDS)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                job.check()
                done.append(job)
                on_done(job)
                print(f'  {job.name}: {time.monotonic() - job.started:.0f} s', flush=True)
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                _report(jobs, running, done, reported - started)
    finally:
        for job in running:
            job.process.kill()


def _report(jobs: Sequence[Job], running: list[Job], done: list[Job], elapsed: float) -> None:
    steps = sum(job.steps for job in done) + sum(job.steps_done() for job in running)
    share = steps / sum(job.steps for job in jobs)
    left = f'about {clock(elapsed * (1 / share - 1))} left' if share > 0.02 else 'starting'
    print(f'  {len(done)} of {len(jobs)} done, {share:.0%} of all steps, {left}', flush=True)
