"""Stages of the check: run each in a process of its own with a time limit, and keep one JSON."""

import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.gpu_check.checks import Outcome, Settings, append_outcome, read_outcomes, run_checks
from evaluation.utils.files import write_json
from evaluation.utils.formats import clock, now

VERSION = 1
POLL_SECONDS = 0.5
# Factor of the time limits on a CPU, which is checked to try the command, not to measure the CPU.
CPU_SLOWNESS = 4
PACKAGE = __name__.rpartition('.')[0]


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes:
        name: name of the stage.
        module: module whose function `checks` returns the checks of the stage.
        seconds: time limit on a GPU.
    """

    name: str
    module: str
    seconds: float


# In order of worth: a check that is interrupted has the most important figures.
STAGES = (
    Stage('environment', f'{PACKAGE}.environment', 30),
    Stage('operators', f'{PACKAGE}.operators', 50),
    Stage('backbones', f'{PACKAGE}.backbone_outputs', 40),
    Stage('training', f'{PACKAGE}.trainings', 140),
    Stage('processes', f'{PACKAGE}.two_processes', 40),
    Stage('speed', f'{PACKAGE}.speed', 140),
    Stage('analyses', f'{PACKAGE}.analyses', 40),
    # These need no GPU, so they are the first to go if one is taken away.
    Stage('memory', f'{PACKAGE}.predicted_memory', 30),
    Stage('kernels', f'{PACKAGE}.kernels', 30),
)


def run_stages(
    names: Sequence[str],
    settings: Settings,
    limit_seconds: float | None,
    file: Path,
    say: Callable[[str], None],
) -> dict:
    """Run stages, and write `file` after each.

    Args:
        names: names of the stages to run.
        settings: settings of all stages.
        limit_seconds: time limit for all stages; None for those of the stages.
        file: the JSON.
        say: prints a line of progress.

    Returns:
        The content of the file.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    chosen = [stage for stage in STAGES if stage.name in names]
    slowness = 1 if settings.is_gpu else CPU_SLOWNESS
    limits = [slowness * stage.seconds for stage in chosen]
    end = time.monotonic() + (limit_seconds or sum(limits))
    content = {
        'version': VERSION,
        'created': now(),
        'device': settings.device,
        'quick': settings.quick,
        'stages': [],
    }
    for number, (stage, limit) in enumerate(zip(chosen, limits, strict=True)):
        left = end - time.monotonic()
        # Time that earlier stages did not need goes to this one.
        spare = left - sum(limits[number:])
        allowed = min(left, limit + max(0.0, spare))
        say(f'{number + 1}/{len(chosen)} {stage.name}: at most {clock(allowed)}, {clock(left)} in all')
        content['stages'].append(run_stage(stage, settings, allowed, say))
        write_json(file, content)
    return content


def run_stage(
    stage: Stage, settings: Settings, seconds: float, say: Callable[[str], None]
) -> dict[str, object]:
    """Run a stage in a new process, and end it when its time is over.

    Returns:
        Name, duration, outcomes, and `problem`: why the stage ended early; '' if it did not.
    """
    outcomes = settings.folder / f'{stage.name}.jsonl'
    outcomes.unlink(missing_ok=True)
    log = settings.folder / f'{stage.name}.log'
    start = time.monotonic()
    if seconds <= 0:
        return _described(stage, 0.0, [], 'no time was left')
    process = multiprocessing.get_context('spawn').Process(
        target=_run_checks_of, args=(stage.module, settings, outcomes, log)
    )
    process.start()
    told = 0
    while process.is_alive() and time.monotonic() - start < seconds:
        process.join(POLL_SECONDS)
        found = read_outcomes(outcomes)
        for outcome in found[told:]:
            line = f'  {outcome.status:7} {outcome.check} ({outcome.seconds:.1f} s) {outcome.reason}'
            say(line.rstrip())
        told = len(found)
    problem = ''
    if process.is_alive():
        _end_group(process.pid)
        problem = f'ran over its limit of {clock(seconds)}'
    elif process.exitcode:
        problem = f'ended with status {process.exitcode}; see {log}'
    process.join()
    return _described(stage, time.monotonic() - start, read_outcomes(outcomes), problem)


def _described(stage: Stage, seconds: float, outcomes: Sequence[Outcome], problem: str) -> dict:
    return {
        'name': stage.name,
        'seconds': seconds,
        'problem': problem,
        'outcomes': [asdict(outcome) for outcome in outcomes],
    }


def _run_checks_of(module: str, settings: Settings, outcomes: Path, log: Path) -> None:
    """Run all checks of a stage; the first process of a group, so that its children end with it."""
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(output, stream)
    stage = importlib.import_module(module)
    run_checks(stage.checks(settings), lambda outcome: append_outcome(outcomes, outcome))
    sys.stdout.flush()


def _end_group(leader: int) -> None:
    """End a process and those that it has started."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        # It has not become the first of a group yet.
        os.kill(leader, signal.SIGKILL)
