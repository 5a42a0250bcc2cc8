"""The demonstration: generated scenes, all mixers, from pretraining over both dense tasks to tables."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from backbones import MIXERS
from evaluation.demo.pictures import predictions_sheet, write_picture
from evaluation.demo.scene_datasets import write_datasets, write_imagenet
from evaluation.demo.scenes import SceneStyle
from evaluation.engine.checkpoints import last_checkpoint
from evaluation.engine.experiment import read_config
from evaluation.report.report_page import build_page
from evaluation.results.reading import load_results
from evaluation.results.selection import select
from evaluation.tables.table import render
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes, write_text
from evaluation.utils.formats import clock
from evaluation.utils.library_output import quiet
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


# How names of its configs begin.
DENSE = ('mask_rcnn', 'upernet')
CONFIGS = Path('configs/demo')
FOLDER = Path('work_dirs/demo')
SPLITS = {'train': 160, 'val': 48}
PRETRAINING = 'imagenet'
PRETRAINING_SPLITS = {'train': 480, 'val': 120}
PRETRAINING_STYLE = SceneStyle(
    height=64,
    width=64,
    objects_min=1,
    objects_max=1,
    size_min=0.4,
    size_max=0.9,
    empty_probability=0.0,
    crowd_probability=0.0,
)
# Of names of trainings that begin with the weights of another.
PRETRAINED = '_pretrained'
SEED = 0
# That each model predicts for the report.
REPORT_IMAGES = 4


def run_demo(parallel: int | None) -> None:
    """Do what is not done yet, then show tables and where the pictures are.

    Args:
        parallel: trainings at a time; None for one a core.

    Raises:
        UserError: not started in the project's folder, or a training failed.
    """
    if not CONFIGS.is_dir():
        raise UserError(f'{CONFIGS} is not here; start this command in the folder of the project')
    started = time.monotonic()
    print(f'1. Scenes, in the layouts of COCO, ADE20K and ImageNet: {FOLDER}/data', flush=True)
    write_datasets(FOLDER / 'data', SceneStyle(), SPLITS, SEED)
    write_imagenet(FOLDER / 'data/imagenet', PRETRAINING_STYLE, PRETRAINING_SPLITS, SEED)
    with quiet():
        jobs = {name: make_job(name) for name in demo_names()}
    first = [name for name in jobs if name.startswith(PRETRAINING)]
    print('2. Classification, for weights to begin with', flush=True)
    train({name: jobs[name] for name in first}, parallel)
    print('3. Detection and segmentation, from scratch and from these weights', flush=True)
    train({name: job for name, job in jobs.items() if name not in first}, parallel)
    print('4. Tables', flush=True)
    write_tables([job.folder for job in jobs.values()])
    print('5. Pictures', flush=True)
    write_pictures(jobs)
    print('6. Report', flush=True)
    write_report([job.folder for job in jobs.values()])
    print(f'Done in {clock(time.monotonic() - started)}. Everything is in {FOLDER}.')


def train(jobs: dict[str, Job], parallel: int | None) -> None:
    """Do those of some trainings that are not finished.

    Args:
        jobs: by name.
        parallel: how many at a time; None for one a core.

    Raises:
        UserError: one failed.
    """
    todo = [job for name, job in jobs.items() if not is_finished(name, job)]
    parallel, threads = places(parallel, len(jobs))
    print(
        f'  {len(todo)} to do, {len(jobs) - len(todo)} finished before; {parallel} at a time, '
        f'{threads} threads each',
        flush=True,
    )
    for job in todo:
        # What an earlier, other training left would be taken for this one's.
        shutil.rmtree(job.folder, ignore_errors=True)
    run_jobs(todo, parallel, threads, on_done=mark_finished)


def places(parallel: int | None, jobs: int) -> tuple[int, int]:
    """How many jobs run at a time, and with how many threads each.

    Args:
        parallel: how many are asked for; None for one a core.
        jobs: how many there are.
    """
    cores = os.cpu_count() or 1
    parallel = parallel or (1 if torch.cuda.is_available() else min(cores, jobs))
    return parallel, max(1, cores // parallel)


def demo_names() -> list[str]:
    """Trainings of the demonstration, by the mixers that have configs, in the order of `MIXERS`."""
    names = []
    for mixer in MIXERS:
        pretraining = pretraining_of(mixer)
        dense = [f'{head}_{mixer}_micro' for head in DENSE]
        dense = [name for name in dense if config_of(name).is_file()]
        if config_of(pretraining).is_file():
            names += [pretraining, *dense, *(name + PRETRAINED for name in dense)]
        else:
            names += dense
    return names


def config_of(name: str) -> Path:
    """The config of a training."""
    return CONFIGS / f'{name.removesuffix(PRETRAINED)}.py'


def pretraining_of(mixer: str) -> str:
    """The training whose weights others of the same mixer begin with."""
    return f'{PRETRAINING}_{mixer}_micro'


def make_job(name: str) -> Job:
    """A training."""
    arguments = [str(config_of(name))]
    if name.endswith(PRETRAINED):
        arguments += ['--pretrained', str(pretrained_weights(name))]
    return Job(name, arguments, FOLDER / name, training_steps(name))


def pretrained_weights(name: str) -> Path:
    """The checkpoint that a training begins with, there or not yet."""
    pretraining = pretraining_of(name.removesuffix(f'_micro{PRETRAINED}').rpartition('_')[2])
    epochs = read_config(str(config_of(pretraining))).train_cfg.max_epochs
    return FOLDER / pretraining / f'epoch_{epochs}.pth'


def training_steps(name: str) -> int:
    """Iterations of a training; exact enough to estimate the end."""
    cfg = read_config(str(config_of(name)))
    if 'max_iters' in cfg.train_cfg:
        return cfg.train_cfg.max_iters
    splits = PRETRAINING_SPLITS if name.startswith(PRETRAINING) else SPLITS
    return cfg.train_cfg.max_epochs * splits['train'] // cfg.train_dataloader.batch_size


def digest(name: str) -> str:
    """What a finished training depended on: its config and the data, and those of its weights."""
    text = read_config(str(config_of(name))).pretty_text
    facts = [text, SceneStyle(), SPLITS, PRETRAINING_STYLE, PRETRAINING_SPLITS, SEED]
    if name.endswith(PRETRAINED):
        facts.append(digest(pretrained_weights(name).parent.name))
    return hashlib.sha256(''.join(map(str, facts)).encode()).hexdigest()


def mark_finished(job: Job) -> None:
    """Leave the stamp that `is_finished` looks for."""
    write_text(job.folder / 'finished', digest(job.name) + '\n')


def is_finished(name: str, job: Job) -> bool:
    """Whether this very training ended before."""
    stamp = job.folder / 'finished'
    is_stamped = stamp.is_file() and stamp.read_text().strip() == digest(name)
    return is_stamped and last_checkpoint(job.folder) is not None


def write_tables(folders: list[Path]) -> None:
    """Print the tables and write them in every format."""
    results = select(load_results(folders), every=False)
    for format, ending in (('markdown', 'md'), ('latex', 'tex')):
        text = render(results, [], format)
        write_text(FOLDER / f'table.{ending}', text)
        if format == 'markdown':
            print(text, flush=True)


def write_report(folders: list[Path]) -> None:
    """Write the page in which all runs can be explored, with what analyses have found so far."""
    file = FOLDER / 'report.html'
    write_bytes(file, build_page(folders, [], 'The demonstration', REPORT_IMAGES))
    print(f'  {file}', flush=True)


def write_pictures(jobs: dict[str, Job]) -> None:
    """Draw predictions beside the truth, a picture a mixer: of pretrained models if there are any."""
    for mixer in MIXERS:
        names = [f'{head}_{mixer}_micro' for head in DENSE]
        if not all(name in jobs for name in names):
            continue
        names = [name + PRETRAINED if name + PRETRAINED in jobs else name for name in names]
        runs = [(config_of(name), last_checkpoint(jobs[name].folder)) for name in names]
        file = FOLDER / f'{mixer}.png'
        with quiet():
            write_picture(file, predictions_sheet(*runs))
        print(f'  {file}', flush=True)
