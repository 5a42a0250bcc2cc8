"""Analyses of the demonstration's pretrained detectors."""

import hashlib
import time
from functools import partial
from pathlib import Path

from evaluation.analysis.results import ANALYSES, load_analyses
from evaluation.demo.demo import (
    DATA,
    PRETRAINED_SUFFIX,
    Demo,
    config_arguments,
    places,
    write_report,
)
from evaluation.demo.jobs import Job, run_command, run_jobs
from evaluation.engine.checkpoints import last_checkpoint
from evaluation.results.reading import load_results
from evaluation.results.selection import select
from evaluation.tables.table import render
from evaluation.utils.files import write_text
from evaluation.utils.formats import clock

TASK = 'mask_rcnn'
# Options of each analysis, and expected seconds on one core.
OPTIONS = {
    'erf': ('--size', '128', '--limit', '24', '--targets', 'stage1', 'stage2', 'stage3', 'stage4'),
    'invariance': ('--limit', '24', '--steps', '5'),
    'robustness': ('--limit', '16', '--budgets', '1', '4', '--severities', '1', '3', '5'),
}
SECONDS = {'erf': 15, 'invariance': 30, 'robustness': 75}


def run_analyses(demo: Demo, parallel: int | None) -> None:
    """Run all unfinished analyses of the pretrained detectors, then compare the detectors.

    Args:
        demo: trainings, all finished.
        parallel: number of analyses at a time; None for one per core.

    Raises:
        UserError: an analysis failed.
    """
    started = time.monotonic()
    parallel, threads = places(parallel)
    detectors = [name for name in demo.names() if is_detector(name)]
    # Longest first, so that all cores are busy until the end.
    kinds = sorted(ANALYSES, key=SECONDS.get, reverse=True)
    todo = [(kind, name) for kind in kinds for name in detectors if not is_finished(demo, kind, name)]
    total = len(kinds) * len(detectors)
    print(f'4. Analyses: {len(todo)} to do, {total - len(todo)} finished before', flush=True)
    jobs = {f'{kind} {name}': (kind, name) for kind, name in todo}
    run_jobs(
        [analysis_job(demo, *each) for each in todo],
        parallel,
        threads,
        lambda job: mark_finished(demo, *jobs[job.name]),
    )
    print('5. Mixers side by side, and the report again', flush=True)
    run_jobs(
        [
            Job('report', partial(write_report, demo), demo.logs, seconds=15, log='report.log'),
            *(comparison_job(demo, kind, detectors) for kind in ANALYSES),
        ],
        parallel,
        threads,
    )
    write_table(demo, detectors)
    print(f'Analyzed in {clock(time.monotonic() - started)}. Everything is in {demo.folder}.')


def is_detector(name: str) -> bool:
    """Return whether a training of the demonstration produces a detector that is analyzed."""
    return name.startswith(TASK) and name.endswith(PRETRAINED_SUFFIX)


def arguments_of(demo: Demo, kind: str, name: str) -> list[str]:
    """Return the command of the analysis of a model."""
    folder = demo.folder / name
    file, *backbone = config_arguments(name)
    arguments = [f'tools/analyze_{kind}.py', file, str(last_checkpoint(folder)), *backbone]
    arguments += [*OPTIONS[kind], '--work-dir', str(folder)]
    return [*arguments, '--images', str(DATA / 'coco/val2017')] if kind == 'erf' else arguments


def analysis_job(demo: Demo, kind: str, name: str) -> Job:
    """Return the job of an analysis."""
    work = partial(run_command, *arguments_of(demo, kind, name))
    return Job(f'{kind} {name}', work, demo.folder / name, SECONDS[kind], log=f'{kind}.log')


def result_file(demo: Demo, kind: str, name: str) -> Path:
    """Return the JSON file that an analysis writes."""
    return demo.folder / name / 'analysis' / f'{kind}.json'


def digest(demo: Demo, kind: str, name: str) -> str:
    """Return a digest of the training and the options of an analysis."""
    facts = [demo.digest(name), *arguments_of(demo, kind, name)]
    return hashlib.sha256(' '.join(facts).encode()).hexdigest()


def mark_finished(demo: Demo, kind: str, name: str) -> None:
    """Write the stamp that `is_finished` looks for."""
    stamp = result_file(demo, kind, name).with_suffix('.finished')
    write_text(stamp, digest(demo, kind, name) + '\n')


def is_finished(demo: Demo, kind: str, name: str) -> bool:
    """Return whether this analysis is finished, with the current options."""
    file = result_file(demo, kind, name)
    stamp = file.with_suffix('.finished')
    is_stamped = stamp.is_file() and stamp.read_text().strip() == digest(demo, kind, name)
    return file.is_file() and is_stamped


def comparison_job(demo: Demo, kind: str, detectors: list[str]) -> Job:
    """Return the job that draws an analysis of all detectors side by side."""
    files = [str(result_file(demo, kind, name)) for name in detectors]
    arguments = [f'tools/analyze_{kind}.py', '--compare', *files]
    arguments += ['--output', str(demo.folder / f'{kind}.png')]
    work = partial(run_command, *arguments)
    return Job(f'{kind}.png', work, demo.folder, seconds=5, log=f'{kind}.md')


def write_table(demo: Demo, detectors: list[str]) -> None:
    """Print and write a table of accuracies with the figures of all analyses."""
    folders = [demo.folder / name for name in detectors]
    results = select(load_results(folders), every=False)
    text = render(results, [], 'markdown', load_analyses(folders))
    write_text(demo.folder / 'analysis.md', text)
    print(f'\n{text}', flush=True)
