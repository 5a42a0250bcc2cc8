"""What `tools/sweep.py` does: plans runs, has them done, and shows how far they are."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Console
from tqdm import tqdm

from evaluation.engine.experiment import check_work_dir
from evaluation.engine.machine_faults import machine_faults_reported
from evaluation.sweep.configs import Wanted, evaluations, find_configs, trainings
from evaluation.sweep.display import Lines, LiveTable, report
from evaluation.sweep.items import (
    ACTIVE,
    DONE,
    REFUSED,
    SETTLED,
    WAITING,
    Item,
    observe,
    planned,
    refused,
)
from evaluation.sweep.launching import Place, python_path
from evaluation.sweep.liveness import Liveness
from evaluation.sweep.local import LocalExecutor, hold
from evaluation.sweep.options import slurm_wishes, wishes_of
from evaluation.sweep.places import local_places
from evaluation.sweep.planning import why_another
from evaluation.sweep.record import read_record
from evaluation.sweep.runs import Digests, Run, Wishes, make_run, own_seed
from evaluation.sweep.signals import interruptions_deferred
from evaluation.sweep.slurm import SlurmExecutor, SlurmWishes
from evaluation.sweep.submission import Claim, Start
from evaluation.utils.errors import UserError
from evaluation.utils.interruption import Interrupted
from evaluation.utils.quiet import quiet

SOME_FAILED = 1


class Executor(Protocol):
    """Who starts jobs.

    Attributes:
        name: as `--executor` calls it.
        poll_seconds: how often to look at its jobs.
        goes_on_with_interrupted: whether a job of another command that was interrupted is started again.
    """

    name: str
    poll_seconds: float
    goes_on_with_interrupted: bool

    def start(self, waiting: Sequence[Start], active: Sequence[Run]) -> list[Claim]:
        """Start those of some runs that there is room for."""

    def interrupt(self, active: Sequence[Run]) -> str:
        """What becomes of jobs when this command ends before them, in words."""


def sweep(arguments: argparse.Namespace) -> int:
    """Sweep as the command line of `tools/sweep.py` asks; return the exit status.

    Raises:
        UserError: the command line is wrong, or nothing of it can be done.
        Interrupted: somebody asked this command to stop.
    """
    configs = find_configs(arguments.patterns)
    wishes, slurm = wishes_of(arguments), slurm_wishes(arguments)
    if arguments.test_only is None:
        with quiet():
            seeds = [arguments.seeds or [own_seed(config, wishes.options)] for config in configs]
        pairs = zip(configs, seeds, strict=True)
        every = [wanted for config, own in pairs for wanted in trainings([config], own)]
    else:
        every = evaluations(configs, Path(arguments.test_only), arguments.seeds)
    places = [] if slurm else local_places(arguments.gpus, arguments.parallel, len(every))
    check_work_dir(wishes.root)
    with machine_faults_reported(str(wishes.root)):
        if arguments.dry_run:
            show_plan(look_at(every, wishes, Liveness()))
            return 0
        items = do(every, wishes, slurm, places)
    print('\n'.join(report(items)), flush=True)
    return 0 if all(item.state == DONE for item in items) else SOME_FAILED


def do(
    every: Sequence[Wanted], wishes: Wishes, slurm: SlurmWishes | None, places: Sequence[Place]
) -> list[Item]:
    """Do all that can be done; return what became of it.

    Args:
        every: what is wanted.
        wishes: of every run.
        slurm: what to ask Slurm for; None for this machine.
        places: where jobs run on this machine.

    Raises:
        Interrupted: somebody asked this command to stop.
        UserError: nothing can be done.
    """
    root, liveness = wishes.root, Liveness()
    # Before the folders are looked at; but nothing is written before it is known that there is a use.
    lock = hold(root) if slurm is None and root.is_dir() else None
    items = look_at(every, wishes, liveness)
    show_plan(items)
    if all(item.state in SETTLED for item in items):
        return items
    make_root(root)
    if slurm:
        work(items, SlurmExecutor(root, slurm, liveness), liveness)
        return items
    with lock or hold(root):
        work(items, LocalExecutor(root, places, liveness), liveness)
    return items


def look_at(every: Sequence[Wanted], wishes: Wishes, liveness: Liveness) -> list[Item]:
    """Decide about each run; one that cannot be done stops no others.

    Raises:
        UserError: none of them can be done.
    """
    items, digests = [], Digests()
    # None: only on a terminal.
    for wanted in tqdm(every, desc='looking at configs, data and work dirs', leave=False, disable=None):
        try:
            with quiet():
                run = make_run(wanted, wishes, digests)
        except UserError as error:
            items.append(refused(wanted.name, str(error)))
        else:
            items.append(planned(run, liveness))
    if all(item.state == REFUSED for item in items):
        more = f' (nor can the {len(items) - 1} others be done)' if items[1:] else ''
        raise UserError(f'{items[0].name}: {items[0].note}{more}')
    return items


def show_plan(items: Sequence[Item]) -> None:
    """Print what will be done and why, a line for each run."""
    width = max(len(item.decision.action) for item in items)
    for item in items:
        print(f'{item.decision.action:{width}}  {item.name}: {item.decision.reason}', flush=True)


def make_root(root: Path) -> None:
    """Make the folder of all work dirs.

    Raises:
        UserError: it cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'work dir {root} cannot be made: {error.strerror}') from error


def work(items: Sequence[Item], executor: Executor, liveness: Liveness) -> None:
    """Have all runs done that can be.

    Raises:
        Interrupted: somebody asked this command to stop.
        UserError: jobs cannot be submitted.
    """
    # For submitit's processes, wherever they start.
    os.environ['PYTHONPATH'] = python_path(os.environ)
    console = Console()
    with LiveTable(console) if console.is_terminal else Lines() as display:
        try:
            while True:
                for item in items:
                    if item.state == ACTIVE:
                        observe(item, liveness, executor.goes_on_with_interrupted)
                with interruptions_deferred():
                    start(items, executor)
                display.show(items)
                if all(item.state in SETTLED for item in items):
                    return
                time.sleep(executor.poll_seconds)
        except KeyboardInterrupt:
            active = [item.run for item in items if item.state == ACTIVE]
            outcome = executor.interrupt(active)
            done = sum(item.state == DONE for item in items)
            raise Interrupted(
                f'{done} of {len(items)} runs are done; {outcome}; repeat the command to go on'
            ) from None


def start(items: Sequence[Item], executor: Executor) -> None:
    """Start what waits and has room."""
    waiting = [item for item in items if item.state == WAITING]
    if not waiting:
        return
    active = [item.run for item in items if item.state == ACTIVE]
    claims = executor.start([item.start() for item in waiting], active)
    started = {claim.run.name for claim in claims}
    for item in waiting:
        record = read_record(item.run.task.folder)
        if why := why_another(item.run.task.folder, item.run.task.identity, record):
            item.refuse(why)
            continue
        if item.name not in started and record == item.record:
            continue
        # If it is neither, another command was faster.
        item.state, item.is_adopted = ACTIVE, item.name not in started
        item.record, item.attempt = record, record.attempt
