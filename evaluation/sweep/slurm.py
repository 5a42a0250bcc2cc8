"""Jobs of a Slurm cluster, submitted as one array; they are Slurm's, not the sweep's."""

import contextlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from evaluation.sweep.launching import Place
from evaluation.sweep.liveness import Liveness
from evaluation.sweep.local import SUBMITIT
from evaluation.sweep.log import complaint
from evaluation.sweep.record import read_record
from evaluation.sweep.runs import Run
from evaluation.sweep.submission import Claim, Start, claim, note_submitted, withdraw
from evaluation.sweep.work import Work
from evaluation.utils.errors import UserError

# Between the signal before the end of a job's time and that end, at most.
SECONDS_BEFORE_THE_END = 90
DURATION = re.compile(r'((?P<days>\d+)-)?(?P<first>\d+)(:(?P<second>\d+))?(:(?P<third>\d+))?')


@dataclass(frozen=True)
class SlurmWishes:
    """What to ask Slurm for, a job each.

    Attributes:
        minutes: limit of a job's time.
        gpus: on each machine; 0 for none.
        nodes: machines.
        cpus: cores for each GPU, or of a job without one.
        partition: None for the cluster's default.
        requeue: how often a job whose time ends is queued again.
        parallel: how many jobs at a time; None for any number.
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
    """Submits jobs to Slurm through submitit.

    Args:
        root: folder of all work dirs, which all machines of the cluster see.
        wishes: what to ask for.
        liveness: to be told of every job.
    """

    name = 'slurm'
    poll_seconds = 2.0
    # Who cancels a job wants it to end, whatever commands look on.
    goes_on_with_interrupted = False

    def __init__(self, root: Path, wishes: SlurmWishes, liveness: Liveness) -> None:
        self._wishes = wishes
        self._liveness = liveness
        self._executor = submitit.SlurmExecutor(root / SUBMITIT, max_num_timeout=wishes.requeue)
        self._executor.update_parameters(**parameters_of(wishes))

    def start(self, waiting: Sequence[Start], active: Sequence[Run]) -> list[Claim]:
        """Submit all of some runs that no other command has, as one array.

        Args:
            waiting: what is to be started.
            active: what is in work; Slurm knows by itself what there is room for.

        Raises:
            UserError: Slurm refuses them.
        """
        claims = [ours for wanted in waiting if (ours := claim(wanted, self.name))]
        if not claims:
            return []
        try:
            # submitit prints what sbatch says to bad options, which is said below.
            with outside_of_a_job(), contextlib.redirect_stderr(io.StringIO()):
                jobs = self._executor.submit_array([self._work(ours) for ours in claims])
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            line = complaint(error)
            for ours in claims:
                withdraw(ours, f'Slurm refused the job: {line}')
            raise UserError(f'Slurm refused the jobs: {line}') from error
        for ours, job in zip(claims, jobs, strict=True):
            self._liveness.note_queued(job.job_id)
            note_submitted(ours, job=job.job_id)
        return claims

    def _work(self, ours: Claim) -> Work:
        processes = max(1, self._wishes.gpus)
        place = Place(processes, self._wishes.cpus, first_port=None)
        return Work(ours.run.task, place, ours.token, lingers=self._wishes.requeue > 0)

    def interrupt(self, active: Sequence[Run]) -> str:
        """Say that jobs go on, and how to end them."""
        records = [read_record(run.task.folder) for run in active]
        jobs = sorted({record.job.partition('_')[0] for record in records if record and record.job})
        return (
            f'{len(active)} jobs stay with Slurm and go on; `scancel {" ".join(jobs)}` ends them'
            if jobs
            else 'no job is left'
        )


def check_slurm() -> None:
    """Look for Slurm's commands.

    Raises:
        UserError: they are not here.
    """
    missing = [name for name in ('sbatch', 'srun', 'squeue') if shutil.which(name) is None]
    if missing:
        raise UserError(
            f'--executor slurm: {missing[0]} is not here; run this on a machine of the cluster, or '
            'leave the option out'
        )


@contextlib.contextmanager
def outside_of_a_job() -> Iterator[None]:
    """Submit from inside a job as from outside: what that job was given is not for others."""
    of_the_job = [name for name in os.environ if name.startswith(('SLURM_', 'SRUN_'))]
    if 'SLURM_JOB_ID' not in os.environ:
        of_the_job = []
    # This one says where the cluster is.
    hidden = {name: os.environ.pop(name) for name in of_the_job if name != 'SLURM_CONF'}
    try:
        yield
    finally:
        os.environ.update(hidden)


def parameters_of(wishes: SlurmWishes) -> dict[str, object]:
    """What submitit calls these wishes: one task a machine, which starts the processes there itself."""
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
        # A job whose machines do not all succeed has failed; one that is done waits for no others. Of
        # the cores srun would give a task one, whatever the job has.
        'srun_args': ['--kill-on-bad-exit=1', '--wait=0', f'--cpus-per-task={cores}'],
    }
    optional = {
        'gpus_per_node': wishes.gpus or None,
        'partition': wishes.partition,
        'array_parallelism': wishes.parallel,
    }
    return parameters | {name: value for name, value in optional.items() if value is not None}


def minutes_of(text: str) -> int:
    """Minutes of a limit in Slurm's forms: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`; at least 1.

    Raises:
        ValueError: it has none of these.
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
