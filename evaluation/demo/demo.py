"""The demonstration: generated scenes, all mixers, both tasks, from scratch to tables and pictures."""

import contextlib
import hashlib
import io
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.config import Config

from backbones import MIXERS
from evaluation.demo.pictures import predictions_sheet, write_picture
from evaluation.demo.scenes import SceneStyle, write_datasets
from evaluation.errors import UserError
from evaluation.experiment import read_config
from evaluation.files import write_text
from evaluation.jobs import Job, clock, run_jobs
from evaluation.tables.table import load_results, render, select

TASKS = ('mask_rcnn', 'upernet')
CONFIGS = Path('configs/demo')
FOLDER = Path('work_dirs/demo')
SPLITS = {'train': 240, 'val': 60}
SEED = 0


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
    print(f'1. Scenes, in the layouts of COCO and ADE20K: {FOLDER}/data', flush=True)
    write_datasets(FOLDER / 'data', SceneStyle(), SPLITS, SEED)
    with quiet():
        jobs = {name: make_job(name) for name in demo_names()}
    todo = [job for name, job in jobs.items() if not is_finished(name, job)]
    cores = os.cpu_count() or 1
    parallel = parallel or (1 if torch.cuda.is_available() else min(cores, len(jobs)))
    threads = max(1, cores // parallel)
    print(
        f'2. Training: {len(todo)} to do, {len(jobs) - len(todo)} finished before; '
        f'{parallel} at a time, {threads} threads each',
        flush=True,
    )
    for job in todo:
        # What an earlier, other training left would be taken for this one's.
        shutil.rmtree(job.folder, ignore_errors=True)
    run_jobs(todo, parallel, threads, on_done=mark_finished)
    print('3. Tables', flush=True)
    write_tables([job.folder for job in jobs.values()])
    print('4. Pictures', flush=True)
    write_pictures(jobs)
    print(f'Done in {clock(time.monotonic() - started)}. Everything is in {FOLDER}.')


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what pycocotools and the OpenMMLab libraries say while they load."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def demo_names() -> list[str]:
    """Configs of the demonstration: each mixer that has both, in the order of `MIXERS`."""
    names = [f'{task}_{mixer}_micro' for mixer in MIXERS for task in TASKS]
    return [name for name in names if (CONFIGS / f'{name}.py').is_file()]


def make_job(name: str) -> Job:
    """The training of one config."""
    cfg = read_config(str(CONFIGS / f'{name}.py'))
    return Job(name, [str(CONFIGS / f'{name}.py')], FOLDER / name, training_steps(cfg))


def training_steps(cfg: Config) -> int:
    """Iterations that a demonstration config trains for; exact enough to estimate the end."""
    if 'max_iters' in cfg.train_cfg:
        return cfg.train_cfg.max_iters
    return cfg.train_cfg.max_epochs * SPLITS['train'] // cfg.train_dataloader.batch_size


def digest(name: str) -> str:
    """What a finished training depended on: its config and the data."""
    text = read_config(str(CONFIGS / f'{name}.py')).pretty_text
    return hashlib.sha256(f'{text}{SceneStyle()}{SPLITS}{SEED}'.encode()).hexdigest()


def mark_finished(job: Job) -> None:
    """Leave the stamp that `is_finished` looks for."""
    write_text(job.folder / 'finished', digest(job.name) + '\n')


def is_finished(name: str, job: Job) -> bool:
    """Whether this very training ended before."""
    stamp = job.folder / 'finished'
    return (
        stamp.is_file() and stamp.read_text().strip() == digest(name) and last_checkpoint(job).is_file()
    )


def last_checkpoint(job: Job) -> Path:
    """The checkpoint that a training ended with."""
    pointer = job.folder / 'last_checkpoint'
    return job.folder / Path(pointer.read_text().strip()).name if pointer.is_file() else pointer


def write_tables(folders: list[Path]) -> None:
    """Print the tables and write them in every format."""
    results = select(load_results(folders), every=False)
    for format, ending in (('markdown', 'md'), ('latex', 'tex')):
        text = render(results, [], format)
        write_text(FOLDER / f'table.{ending}', text)
        if format == 'markdown':
            print(text, flush=True)


def write_pictures(jobs: dict[str, Job]) -> None:
    """Draw predictions beside the truth, one picture a mixer."""
    for mixer in MIXERS:
        names = [f'{task}_{mixer}_micro' for task in TASKS]
        if not all(name in jobs for name in names):
            continue
        runs = [(CONFIGS / f'{name}.py', last_checkpoint(jobs[name])) for name in names]
        file = FOLDER / f'{mixer}.png'
        with quiet():
            write_picture(file, predictions_sheet(*runs))
        print(f'  {file}', flush=True)
