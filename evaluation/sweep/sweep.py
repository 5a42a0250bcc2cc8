"""Command line and main loop of `tools/sweep.py`: plan runs, start them, show their progress."""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from rich.console import Console
from tqdm import tqdm

from evaluation.config.overrides import add_overrides
from evaluation.engine.experiment import check_work_dir
from evaluation.engine.faults import machine_faults_reported
from evaluation.engine.protocol_options import add_protocol_options, options_of
from evaluation.sweep.decisions import REFUSED, why_another
from evaluation.sweep.display import Lines, LiveTable, report
from evaluation.sweep.executors import (
    LocalExecutor,
    SlurmExecutor,
    SlurmWishes,
    check_slurm,
    hold,
    minutes_of,
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
    find_configs,
    find_entries,
    make_run,
    own_seed,
    trainings,
)
from evaluation.utils.errors import CommandLine, UserError, quiet
from evaluation.utils.formats import whole
from evaluation.utils.interruption import Interrupted

SOME_FAILED = 1
ROOT = 'work_dirs/sweep'
EXECUTORS = ('local', 'slurm')
# Options passed on to `tools/train.py`; they change what is computed.
FLAGS = {
    'deterministic': 'use only deterministic algorithms; slower',
    'amp': 'train with mixed precision (GPU)',
    'auto_scale_lr': 'scale the learning rate with the batch size',
}
SLURM_ONLY = ('partition', 'time', 'nodes', 'requeue', 'cpus_per_gpu', 'slurm_options')


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


def add_arguments(parser: CommandLine) -> None:
    """Add the options of the command."""
    parser.add_argument(
        'patterns', nargs='+', metavar='PATTERN', help="configs, such as 'configs/mask_rcnn_*_tiny.py'"
    )
    parser.add_argument(
        '--backbones',
        nargs='+',
        default=[],
        metavar='NAME',
        help='run each config with each of these backbones instead of its own: scales such as dcn_tiny, '
        'timm:NAME or package.module:Class',
    )
    parser.add_argument(
        '--seeds',
        type=whole,
        nargs='+',
        metavar='N',
        help="random seeds; default: each config's seed, or 0",
    )
    parser.add_argument(
        '--work-dir', default=ROOT, metavar='ROOT', help=f'output folder; default {ROOT}'
    )
    parser.add_argument(
        '--test-only',
        metavar='DIR',
        help="test each config's checkpoints in this folder, without training",
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='print what would be done and why, without doing it'
    )
    parser.add_argument(
        '--gpus',
        type=int,
        default=1,
        help='GPUs per job and machine, or processes if there are no GPUs; default 1',
    )
    parser.add_argument(
        '--parallel', type=int, metavar='N', help='number of jobs at a time; default: as many as fit'
    )
    parser.add_argument(
        '--data-root',
        metavar='DIR',
        help='root folder of the data, or a folder with several of them, named as in the configs',
    )
    parser.add_argument(
        '--pretrained',
        metavar='CHECKPOINT',
        help='initial weights: `released`, or a path or URL, in which {name}, {mixer}, {scale} and '
        '{seed} are replaced by those of the run; default: from scratch',
    )
    add_protocol_options(parser)
    for name, text in FLAGS.items():
        parser.add_argument(f'--{name.replace("_", "-")}', action='store_true', help=text)
    add_overrides(parser)
    parser.add_argument(
        '--executor', type=_executor, default='local', metavar='{local,slurm}', help='default: local'
    )
    add_slurm_arguments(parser)


def add_slurm_arguments(parser: CommandLine) -> None:
    """Add the options that need `--executor slurm`."""
    slurm = parser.add_argument_group('with --executor slurm')
    slurm.add_argument(
        '--time', metavar='LIMIT', help='time limit of one job, as for sbatch: 8:00:00, 2-0, minutes'
    )
    slurm.add_argument('--partition', help="default: the cluster's default")
    slurm.add_argument('--nodes', type=int, metavar='N', help='machines per job; default 1')
    slurm.add_argument(
        '--requeue',
        type=int,
        metavar='N',
        help='requeue a job when its time ends, at most N times; default 0',
    )
    slurm.add_argument('--cpus-per-gpu', type=int, metavar='N', help='CPU cores per GPU; default 5')
    slurm.add_argument(
        '--slurm-options',
        nargs='+',
        metavar='NAME=VALUE',
        help='further options of sbatch, such as account=vision',
    )


def wishes_of(arguments: argparse.Namespace) -> Wishes:
    """Return the options that apply to every run.

    Raises:
        UserError: a number is invalid, or an option conflicts with --test-only.
    """
    _check_number('gpus', arguments.gpus, least=0)
    _check_number('parallel', arguments.parallel, least=1)
    _check_number('nodes', arguments.nodes, least=1)
    flags = tuple(f'--{name.replace("_", "-")}' for name in FLAGS if getattr(arguments, name))
    of_training = [*flags, *(['--pretrained'] if arguments.pretrained else [])]
    if arguments.test_only is not None and of_training:
        raise UserError(f'{of_training[0]} applies to training only; remove it, or remove --test-only')
    return Wishes(
        root=Path(arguments.work_dir),
        processes=max(1, arguments.gpus) * (arguments.nodes or 1),
        data_root=arguments.data_root,
        pretrained=arguments.pretrained,
        flags=flags,
        options=arguments.cfg_options,
        protocol=options_of(arguments),
    )


def slurm_wishes(arguments: argparse.Namespace) -> SlurmWishes | None:
    """Return the resources to request from Slurm; None without it.

    Raises:
        UserError: an option is missing, invalid or useless without Slurm, or Slurm is not installed.
    """
    given = [name for name in SLURM_ONLY if getattr(arguments, name) is not None]
    if arguments.executor != 'slurm':
        if given:
            option = f'--{given[0].replace("_", "-")}'
            raise UserError(f'{option} is only for Slurm; add --executor slurm, or remove it')
        return None
    if arguments.time is None:
        raise UserError('--executor slurm needs --time, the limit of one job, such as --time 8:00:00')
    try:
        minutes = minutes_of(arguments.time)
    except ValueError:
        raise UserError(
            f'--time is {arguments.time!r}; give hours:minutes:seconds, such as 8:00:00'
        ) from None
    _check_number('requeue', arguments.requeue, least=0)
    _check_number('cpus-per-gpu', arguments.cpus_per_gpu, least=1)
    check_slurm()
    others = dict(_name_and_value(text) for text in arguments.slurm_options or [])
    return SlurmWishes(
        minutes=minutes,
        gpus=arguments.gpus,
        nodes=arguments.nodes or 1,
        cpus=arguments.cpus_per_gpu or 5,
        partition=arguments.partition,
        requeue=arguments.requeue or 0,
        parallel=arguments.parallel,
        others=others,
    )


def _executor(name: str) -> str:
    # `choices` would word its error differently in each version of Python.
    if name not in EXECUTORS:
        raise argparse.ArgumentTypeError(f'unknown executor {name!r}; choose {" or ".join(EXECUTORS)}')
    return name


def _name_and_value(text: str) -> tuple[str, str]:
    name, equals, value = text.partition('=')
    if not name or not equals:
        raise UserError(f'--slurm-options: {text!r} is invalid; give NAME=VALUE, such as account=vision')
    return name, value


def _check_number(option: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UserError(f'--{option} is {value}; give an integer of at least {least}')
