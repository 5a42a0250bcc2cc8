"""Run the jobs of the demonstration in parallel, with an estimate of the remaining time."""

import multiprocessing
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from evaluation.utils.errors import UserError
from evaluation.utils.formats import clock
from evaluation.utils.scalars import latest_step

POLL_SECONDS = 0.2
REPORT_SECONDS = 15.0
# Weight of the expected times, in seconds of measured work.
TRUST = 60.0


@dataclass
class Job:
    """Work that runs in a separate process.

    Attributes:
        name: name in progress lines.
        work: function that the process calls.
        folder: output folder.
        seconds: expected seconds on one core.
        log: name of the file for the process's output.
        after: name of the job that must finish first; None if there is none.
        steps: number of iterations of a training, to read its progress from `folder`; 0 for others.
    """

    name: str
    work: Callable[[], None]
    folder: Path
    seconds: float
    log: str = 'output.log'
    after: str | None = None
    steps: int = 0
    process: BaseProcess | None = field(default=None, repr=False)
    started: float = 0.0

    def start(self, threads: int) -> None:
        """Start the process with the given number of threads.

        The process is forked, so all modules are already imported. Importing them takes half as long as
        a short training.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context('fork')
        self.started = time.monotonic()
        self.process = context.Process(target=_run, args=(self.work, self.folder / self.log, threads))
        self.process.start()

    def share_done(self) -> float:
        """Return the finished share of a running training; 0 for other work."""
        return min(latest_step(self.folder).done / self.steps, 1.0) if self.steps else 0.0

    def check(self) -> None:
        """Check that the finished process has succeeded.

        Raises:
            UserError: the job failed; the last lines of its output are printed.
        """
        if self.process.exitcode:
            tail = (self.folder / self.log).read_text().splitlines()[-15:]
            print('\n'.join(tail), file=sys.stderr)
            raise UserError(f'{self.name} failed; its output is in {self.folder / self.log}')


def run_command(script: str, *arguments: str) -> None:
    """Run a command of the suite in this process, with the given arguments."""
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name='__main__')


def _run(work: Callable[[], None], log: Path, threads: int) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(output, stream)
    # The forked objects may write elsewhere, as those of a test do.
    sys.stdout = os.fdopen(1, 'w', closefd=False, buffering=1)
    sys.stderr = os.fdopen(2, 'w', closefd=False, buffering=1)
    torch.set_num_threads(threads)
    work()


class RemainingTime:
    """Estimate of the remaining time, from expected times and the speed so far.

    Expected times are scaled by the measured speed of this machine. At the start, the expectation counts
    as `TRUST` seconds of measured work.

    Args:
        jobs: all jobs.
        parallel: number of jobs at a time.
    """

    def __init__(self, jobs: Iterable[Job], parallel: int) -> None:
        self.total = sum(job.seconds for job in jobs)
        self.parallel = parallel

    def seconds_left(self, done: Sequence[Job], running: Sequence[Job], spent: float) -> float:
        """Return the estimated remaining seconds.

        Args:
            done: finished jobs.
            running: running jobs.
            spent: total run time of the jobs so far, in seconds.
        """
        finished = sum(job.seconds for job in done)
        finished += sum(job.seconds * job.share_done() for job in running)
        slowness = (TRUST + spent) / (TRUST + finished)
        return (self.total - finished) * slowness / self.parallel


def run_jobs(
    jobs: Sequence[Job], parallel: int, threads: int, on_done: Callable[[Job], None] = lambda job: None
) -> None:
    """Run all jobs.

    Args:
        jobs: jobs in the order in which they start, except those that wait for another.
        parallel: number of jobs at a time.
        threads: number of threads of each.
        on_done: called with each job as soon as it has succeeded.

    Raises:
        UserError: one of them failed; the others are stopped.
    """
    waiting, running, done = list(jobs), [], []
    remaining = RemainingTime(jobs, parallel)
    spent, last = 0.0, time.monotonic()
    reported = last
    try:
        while waiting or running:
            while len(running) < parallel and (job := _next(waiting, running)):
                waiting.remove(job)
                running.append(job)
                job.start(threads)
            time.sleep(POLL_SECONDS)
            now = time.monotonic()
            spent, last = spent + (now - last) * len(running), now
            for job in [job for job in running if not job.process.is_alive()]:
                running.remove(job)
                job.check()
                done.append(job)
                on_done(job)
                print(f'  {job.name}: {now - job.started:.0f} s', flush=True)
            if now - reported > REPORT_SECONDS:
                reported = now
                left = clock(remaining.seconds_left(done, running, spent))
                print(f'  {len(done)} of {len(jobs)} done, about {left} left', flush=True)
    finally:
        for job in running:
            job.process.kill()


def _next(waiting: Sequence[Job], running: Sequence[Job]) -> Job | None:
    """Return the first waiting job that does not depend on an unfinished job."""
    unfinished = {job.name for job in (*waiting, *running)}
    return next((job for job in waiting if job.after not in unfinished), None)
