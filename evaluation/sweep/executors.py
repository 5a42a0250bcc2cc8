"""Executors that start jobs: on this machine, one per free place, or as an array on a Slurm cluster."""

import contextlib
import io
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from evaluation.sweep.items import Claim, Liveness, Start, claim, note_submitted, withdraw
from evaluation.sweep.launching import SECONDS_TO_STOP, Place, children_detached, process_started
from evaluation.sweep.record import Lock, Record, is_process_of, read_record, this_host
from evaluation.sweep.runs import Run
from evaluation.sweep.work import Work, complaint
from evaluation.utils.errors import UserError

# submitit kills a local job after this time, so make it long enough never to matter.
MINUTES = 10 * 366 * 24 * 60
POLL_SECONDS = 0.2
AGAIN_SECONDS = 1.0
SUBMITIT = '.submitit'
ROOT_LOCK = '.sweep.lock'
# Longest time between the warning signal and the end of a job's time.
SECONDS_BEFORE_THE_END = 90
DURATION = re.compile(r'((?P<days>\d+)-)?(?P<first>\d+)(:(?P<second>\d+))?(:(?P<third>\d+))?')


def hold(root: Path) -> Lock:
    """Lock a folder of work dirs, so that only one local sweep uses it at a time.

    Raises:
        UserError: another sweep holds the lock.
    """
    lock = Lock(root / ROOT_LOCK)
    if not lock.acquire():
        raise UserError(
            f'another sweep is running in {root}; wait until it ends, or give another --work-dir '
            '(--dry-run shows its progress)'
        )
    return lock


class LocalExecutor:
    """Start jobs on this machine through submitit, one at a time in each place.

    Args:
        root: folder of all work dirs, locked by `hold`.
        places: where jobs run.
        liveness: tracker that is told of every job.
    """

    name = 'local'
    poll_seconds = 0.5
    # Running the command again while jobs are stopping means that they should continue.
    goes_on_with_interrupted = True

    def __init__(self, root: Path, places: Sequence[Place], liveness: Liveness) -> None:
        self._places = places
        self._liveness = liveness
        self._taken: dict[Path, list[Place]] = {}
        self._executor = submitit.LocalExecutor(root / SUBMITIT)
        self._executor.update_parameters(timeout_min=MINUTES, stderr_to_stdout=True)

    def start(self, waiting: Sequence[Start], active: Sequence[Run]) -> list[Claim]:
        """Start as many of the waiting runs as there are free places.

        Args:
            waiting: runs to start, in order.
            active: active runs.
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
        """Ask all jobs to stop, wait, record the outcome, and return a description of it."""
        end, asked = time.monotonic() + SECONDS_TO_STOP + 10, 0.0
        left = list(active)
        while left and time.monotonic() < end:
            if time.monotonic() - asked > AGAIN_SECONDS:
                # Repeat for jobs that had not recorded their process yet.
                asked = time.monotonic()
                _ask_to_stop(left)
            time.sleep(POLL_SECONDS)
            left = [run for run in left if self._is_alive(run)]
        for run in active:
            record = read_record(run.task.folder)
            if record and run not in left:
                # Jobs that had begun have recorded the interruption themselves.
                withdraw(Claim(run, record.token), 'asked to stop before it began')
        if left:
            return f'{", ".join(run.name for run in left)} did not stop in {SECONDS_TO_STOP:.0f} s'
        return f'{len(active)} running jobs were stopped'

    def _is_alive(self, run: Run) -> bool:
        return self._liveness.is_alive(run.task.folder, read_record(run.task.folder))

    def _seat(self, active: Sequence[Run]) -> None:
        """Free the places of ended jobs, and assign places to jobs of an earlier sweep."""
        folders = {run.task.folder for run in active}
        self._taken = {folder: places for folder, places in self._taken.items() if folder in folders}
        for folder in folders - self._taken.keys():
            self._taken[folder] = self._places_of(read_record(folder))

    def _places_of(self, record: Record | None) -> list[Place]:
        """Return the places of a job of an earlier sweep: those with its GPUs, otherwise any."""
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


@dataclass(frozen=True)
class SlurmWishes:
    """Resources of one Slurm job.

    Attributes:
        minutes: time limit.
        gpus: GPUs per machine; 0 for none.
        nodes: number of machines.
        cpus: CPU cores per GPU, or per machine without GPUs.
        partition: name of the partition; None for the cluster's default.
        requeue: number of times that a job is queued again when its time ends.
        parallel: number of jobs that run at the same time; None for no limit.
        others: further options of `sbatch`, by name.
    """

    minutes: int
    gpus: int = 1
    nodes: int = 1
    cpus: int = 5
    partition: str | None = None
    requeue: int = 0
    parallel: int | None = None
    others: dict[str, str] = field(default_factory=dict)


class SlurmExecutor:
    """Submit jobs to Slurm through submitit, as one array.

    Args:
        root: folder of all work dirs, visible to all machines of the cluster.
        wishes: resources of each job.
        liveness: tracker that is told of every job.
    """

    name = 'slurm'
    poll_seconds = 2.0
    # A canceled job must not be restarted by a command that observes it.
    goes_on_with_interrupted = False

    def __init__(self, root: Path, wishes: SlurmWishes, liveness: Liveness) -> None:
        self._wishes = wishes
        self._liveness = liveness
        self._executor = submitit.SlurmExecutor(root / SUBMITIT, max_num_timeout=wishes.requeue)
        self._executor.update_parameters(**parameters_of(wishes))

    def start(self, waiting: Sequence[Start], active: Sequence[Run]) -> list[Claim]:
        """Submit all waiting runs that no other command has claimed, as one array.

        Args:
            waiting: runs to start, in order.
            active: unused; Slurm decides how many jobs run at a time.

        Raises:
            UserError: Slurm rejects the jobs.
        """
        claims = [ours for wanted in waiting if (ours := claim(wanted, self.name))]
        if not claims:
            return []
        try:
            # Hide sbatch's messages, which submitit prints and the error below repeats.
            with outside_of_a_job(), contextlib.redirect_stderr(io.StringIO()):
                jobs = self._executor.submit_array([self._work(ours) for ours in claims])
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            line = complaint(error)
            for ours in claims:
                withdraw(ours, f'Slurm rejected the job: {line}')
            raise UserError(f'Slurm rejected the jobs: {line}') from error
        for ours, job in zip(claims, jobs, strict=True):
            self._liveness.note_queued(job.job_id)
            note_submitted(ours, job=job.job_id)
        return claims

    def _work(self, ours: Claim) -> Work:
        processes = max(1, self._wishes.gpus)
        place = Place(processes, self._wishes.cpus, first_port=None)
        return Work(ours.run.task, place, ours.token, lingers=self._wishes.requeue > 0)

    def interrupt(self, active: Sequence[Run]) -> str:
        """Return a message that jobs keep running and how to cancel them."""
        records = [read_record(run.task.folder) for run in active]
        jobs = sorted({record.job.partition('_')[0] for record in records if record and record.job})
        return (
            f'{len(active)} jobs keep running on Slurm; `scancel {" ".join(jobs)}` cancels them'
            if jobs
            else 'no job is left'
        )


def check_slurm() -> None:
    """Check that Slurm's commands exist.

    Raises:
        UserError: a command is missing.
    """
    missing = [name for name in ('sbatch', 'srun', 'squeue') if shutil.which(name) is None]
    if missing:
        raise UserError(
            f'--executor slurm: {missing[0]} was not found; run this on a machine of the cluster, or '
            'remove the option'
        )


@contextlib.contextmanager
def outside_of_a_job() -> Iterator[None]:
    """Hide the variables of the surrounding Slurm job from the jobs submitted here."""
    of_the_job = [name for name in os.environ if name.startswith(('SLURM_', 'SRUN_'))]
    if 'SLURM_JOB_ID' not in os.environ:
        of_the_job = []
    # SLURM_CONF locates the cluster.
    hidden = {name: os.environ.pop(name) for name in of_the_job if name != 'SLURM_CONF'}
    try:
        yield
    finally:
        os.environ.update(hidden)


def parameters_of(wishes: SlurmWishes) -> dict[str, object]:
    """Return the parameters for submitit: one task per machine, which starts its processes."""
    cores = wishes.cpus * max(1, wishes.gpus)
    parameters: dict[str, object] = {
        'job_name': 'sweep',
        'time': wishes.minutes,
        'nodes': wishes.nodes,
        'ntasks_per_node': 1,
        'cpus_per_task': cores,
        'signal_delay_s': min(SECONDS_BEFORE_THE_END, 15 * wishes.minutes),
        'stderr_to_stdout': True,
        'additional_parameters': {**({'requeue': True} if wishes.requeue else {}), **wishes.others},
        # A job fails if one of its machines fails; a finished machine waits for no others. Without
        # --cpus-per-task, srun would give the task a single core.
        'srun_args': ['--kill-on-bad-exit=1', '--wait=0', f'--cpus-per-task={cores}'],
    }
    optional = {
        'gpus_per_node': wishes.gpus or None,
        'partition': wishes.partition,
        'array_parallelism': wishes.parallel,
    }
    return parameters | {name: value for name, value in optional.items() if value is not None}


def minutes_of(text: str) -> int:
    """Return minutes, at least 1, from Slurm's `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M` or `D-H:M:S`.

    Raises:
        ValueError: the text has none of these formats.
    """
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    parts = [int(part) for part in match.group('first', 'second', 'third') if part is not None]
    if match['days'] is not None:
        hours, minutes, seconds = [*parts, 0, 0][:3]
        hours += 24 * int(match['days'])
    elif len(parts) == 3:
        hours, minutes, seconds = parts
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return max(1, 60 * hours + minutes + (seconds > 0))
