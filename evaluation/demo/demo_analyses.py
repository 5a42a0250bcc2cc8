"""Second half of the demonstration: analyses of its detectors."""

import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from evaluation.analysis.results import ANALYSES
from evaluation.demo import demo
from evaluation.demo.demo import Job, run_jobs
from evaluation.engine.checkpoints import last_checkpoint
from evaluation.results.reading import load_results
from evaluation.results.selection import select
from evaluation.tables.analyses import load_analyses
from evaluation.tables.table import render
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_text
from evaluation.utils.formats import clock

HEAD = 'mask_rcnn'
# Of each analysis: options, and how long it takes beside the others.
OPTIONS = {
    'erf': ('--size', '128', '--limit', '24', '--targets', 'stage1', 'stage2', 'stage3', 'stage4'),
    'invariance': ('--limit', '24', '--steps', '5'),
    'robustness': ('--limit', '16', '--budgets', '1', '4', '--severities', '1', '3', '5'),
}
COSTS = {'erf': 1, 'invariance': 2, 'robustness': 5}


@dataclass
class AnalysisJob(Job):
    """An analysis of the model that a training left.

    Attributes:
        kind: which analysis.
        training: name of the training.
    """

    kind: str = ''
    training: str = ''


def run_analyses(parallel: int | None) -> None:
    """Do what is not done yet for the pretrained detector of each mixer, then compare them.

    Args:
        parallel: analyses at a time; None for one a core.

    Raises:
        UserError: one failed.
    """
    started = time.monotonic()
    detectors = [name for name in demo.demo_names() if is_detector(name)]
    # The longest first, so that all cores are busy until the end.
    kinds = sorted(ANALYSES, key=COSTS.get, reverse=True)
    jobs = [make_job(kind, name) for kind in kinds for name in detectors]
    print('7. What the detectors see, and what they withstand', flush=True)
    todo = [job for job in jobs if not is_finished(job)]
    parallel, threads = demo.places(parallel, len(jobs))
    print(f'  {len(todo)} to do, {len(jobs) - len(todo)} finished before', flush=True)
    run_jobs(todo, parallel, threads, on_done=mark_finished)
    print('8. Mixers side by side', flush=True)
    for kind in ANALYSES:
        compare(kind, [result_file(job) for job in jobs if job.kind == kind])
    write_table([demo.FOLDER / name for name in detectors])
    print('9. Report, with all of it', flush=True)
    demo.write_report([demo.FOLDER / name for name in demo.demo_names()])
    print(f'Analyzed in {clock(time.monotonic() - started)}. Everything is in {demo.FOLDER}.')


def is_detector(name: str) -> bool:
    """Whether a training of the demonstration leaves a detector that is analysed."""
    return name.startswith(HEAD) and name.endswith(demo.PRETRAINED)


def make_job(kind: str, name: str) -> AnalysisJob:
    """The analysis of the model that a training of this name left."""
    training = demo.make_job(name)
    arguments = [str(demo.config_of(name)), str(last_checkpoint(training.folder)), *OPTIONS[kind]]
    if kind == 'erf':
        arguments += ['--images', str(demo.FOLDER / 'data/coco/val2017')]
    return AnalysisJob(
        name=f'{kind} {name}',
        arguments=arguments,
        folder=training.folder,
        steps=COSTS[kind],
        script=f'tools/analyze_{kind}.py',
        log=f'{kind}.log',
        kind=kind,
        training=name,
    )


def result_file(job: AnalysisJob) -> Path:
    """The JSON file that an analysis writes."""
    return job.folder / 'analysis' / f'{job.kind}.json'


def digest(job: AnalysisJob) -> str:
    """What an analysis depended on: the training, and the options."""
    facts = [demo.digest(job.training), *job.arguments]
    return hashlib.sha256(' '.join(facts).encode()).hexdigest()


def mark_finished(job: AnalysisJob) -> None:
    """Leave the stamp that `is_finished` looks for."""
    write_text(result_file(job).with_suffix('.finished'), digest(job) + '\n')


def is_finished(job: AnalysisJob) -> bool:
    """Whether this very analysis ended before."""
    file = result_file(job)
    stamp = file.with_suffix('.finished')
    return file.is_file() and stamp.is_file() and stamp.read_text().strip() == digest(job)


def compare(kind: str, files: list[Path]) -> None:
    """Draw results side by side.

    Raises:
        UserError: this failed.
    """
    output = demo.FOLDER / f'{kind}.png'
    command = [sys.executable, f'tools/analyze_{kind}.py', '--compare', *files, '--output', output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise UserError(f'{kind}: the results could not be compared')
    write_text(output.with_suffix('.md'), done.stdout)
    print(f'  {output}', flush=True)


def write_table(folders: list[Path]) -> None:
    """Print the figures of all analyses beside the accuracy, and write them."""
    results = select(load_results(folders), every=False)
    text = render(results, [], 'markdown', load_analyses(folders))
    write_text(demo.FOLDER / 'analysis.md', text)
    print(f'\n{text}', flush=True)
