"""Main loop of `tools/sweep.py`: plan runs, start them, show their progress."""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from rich.console import Console
from tqdm import tqdm

from evaluation.engine.experiment import check_work_dir
from evaluation.engine.faults import machine_faults_reported
from evaluation.sweep.decisions import REFUSED, why_another
from evaluation.sweep.display import Lines, LiveTable, report
from evaluation.sweep.entries import find_configs, find_entries
from evaluation.sweep.executors import (
    LocalExecutor,
    SlurmExecutor,
    SlurmWishes,
    hold,
)
from evaluation.sweep.items import (
    ACTIVE,
    SETTLED,
    WAITING,
    Claim,
    Item,
    Liveness,
    Start,
    observe,
    planned,
    refused,
)
from evaluation.sweep.launching import Place, interruptions_deferred, local_places, python_path
from evaluation.sweep.record import DONE, read_record
from evaluation.sweep.runs import (
    Digests,
    Run,
    Wanted,
    Wishes,
    evaluations,
    make_run,
    own_seed,
    trainings,
)
from evaluation.sweep.sweep_options import slurm_wishes, wishes_of
from evaluation.utils.errors import UserError, quiet
from evaluation.utils.interruption import Interrupted

SOME_FAILED = 1


class Executor(Protocol):
    """Start and interrupt jobs.

    Attributes:
        name: value of `--executor`.
        poll_seconds: seconds between checks of its jobs.
        goes_on_with_interrupted: whether to resume interrupted jobs of another command.
    """

    name: str
    poll_seconds: float
    goes_on_with_interrupted: bool

    def start(self, waiting: Sequence[Start], active: Sequence[Run]) -> list[Claim]:
        """Start as many waiting runs as there is room for."""

    def interrupt(self, active: Sequence[Run]) -> str:
        """Stop active jobs or leave them running; return a description of the outcome."""


def sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep from command-line arguments; return the exit status.

    Raises:
        UserError: the command line is invalid, or none of the runs can be done.
        Interrupted: this command was asked to stop.
    """
    wishes, slurm = wishes_of(arguments), slurm_wishes(arguments)
    with quiet():
        entries = find_entries(find_configs(arguments.patterns), arguments.backbones)
    entries = [replace(each, name=f'{each.name}{wishes.protocol.suffix}') for each in entries]
    if arguments.test_only is None:
        with quiet():
            seeds = [arguments.seeds or [own_seed(each.config, wishes.options)] for each in entries]
        pairs = zip(entries, seeds, strict=True)
        every = [wanted for each, own in pairs for wanted in trainings([each], own)]
    else:
        every = evaluations(entries, Path(arguments.test_only), arguments.seeds)
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
    """Do all possible runs; return the runs with their final states.

    Args:
        every: requested configs and seeds.
        wishes: options that apply to every run.
        slurm: resources to request from Slurm; None to run on this machine.
        places: where jobs run on this machine.

    Raises:
        Interrupted: this command was asked to stop.
        UserError: none of the runs can be done.
    """
    root, liveness = wishes.root, Liveness()
    # Lock before looking at the folders, but create no folder until there is work to do.
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
    """Decide what to do about each run; an invalid one does not stop the others.

    Raises:
        UserError: none of the runs can be done.
    """
    items, digests = [], Digests()
    # `disable=None` shows the bar only on a terminal.
    for wanted in tqdm(every, desc='checking configs, data and work dirs', leave=False, disable=None):
        try:
            with quiet():
                run = make_run(wanted, wishes, digests)
        except UserError as error:
            items.append(refused(wanted.name, str(error)))
        else:
            items.append(planned(run, liveness))
    if all(item.state == REFUSED for item in items):
        more = f' (the other {len(items) - 1} cannot be done either)' if items[1:] else ''
        raise UserError(f'{items[0].name}: {items[0].note}{more}')
    return items


def show_plan(items: Sequence[Item]) -> None:
    """Print what will be done and why, one line per run."""
    width = max(len(item.decision.action) for item in items)
    for item in items:
        print(f'{item.decision.action:{width}}  {item.name}: {item.decision.reason}', flush=True)


def make_root(root: Path) -> None:
    """Create the folder of all work dirs.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'work dir {root} cannot be created ({error.strerror})') from error


def work(items: Sequence[Item], executor: Executor, liveness: Liveness) -> None:
    """Start and observe runs until all are settled.

    Raises:
        Interrupted: this command was asked to stop.
        UserError: jobs cannot be submitted.
    """
    # submitit's processes need this to import the suite.
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
                f'{done} of {len(items)} runs are done; {outcome}; to resume, run the same command again'
            ) from None


def start(items: Sequence[Item], executor: Executor) -> None:
    """Start as many waiting runs as there is room for."""
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
        # A run with a new record that was not started here was started by another command.
        item.state, item.is_adopted = ACTIVE, item.name not in started
        item.record, item.attempt = record, record.attempt
