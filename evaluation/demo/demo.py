"""Demonstration on generated scenes: several mixers, both dense tasks, from scratch and pretrained."""

import functools
import hashlib
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config

from backbones import MIXERS, PAPER_MIXERS
from evaluation.config.contestants import open_config
from evaluation.demo.findings import write_tables
from evaluation.demo.jobs import Job, run_command, run_jobs
from evaluation.demo.pictures import predictions_sheet, write_sheet
from evaluation.engine.checkpoints import last_checkpoint
from evaluation.report.report_page import build_page
from evaluation.scenes.scene_datasets import write_datasets, write_imagenet
from evaluation.scenes.scenes import SceneStyle
from evaluation.utils.errors import UserError, did_you_mean, quiet
from evaluation.utils.files import write_bytes, write_text
from evaluation.utils.formats import clock

CONFIGS = Path('configs/demo')
# The configs in `configs/demo` read this folder.
DATA = Path('work_dirs/demo/data')
# The leaf for mixers without one, whose backbone is replaced.
USUAL_MIXER = 'swin'
# Value of `--mixers` for all of them.
EVERY = 'all'
# Start of the names of configs: pretraining, and the two dense tasks.
PRETRAINING = 'imagenet'
DENSE = ('mask_rcnn', 'upernet')
# End of the names of trainings that start from pretrained weights.
PRETRAINED_SUFFIX = '_pretrained'
SPLITS = {'train': 160, 'val': 48}
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
SEED = 0
# Number of images that each model predicts for the report.
REPORT_IMAGES = 4


@dataclass(frozen=True)
class Length:
    """Short or full version of the demonstration.

    Attributes:
        folder: output folder.
        seconds: expected duration of a training on one core, by the start of the config's name.
        options: overrides of the config, by the start of its name.
    """

    folder: Path
    seconds: Mapping[str, float]
    options: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


FULL = Length(Path('work_dirs/demo_full'), {PRETRAINING: 37, 'mask_rcnn': 42, 'upernet': 33})
# Half the training still shows the benefit of pretraining, in a third of the time.
SHORT = Length(
    Path('work_dirs/demo'),
    {PRETRAINING: 37, 'mask_rcnn': 23, 'upernet': 18},
    {
        'mask_rcnn': {
            'train_cfg.max_epochs': 1,
            'train_cfg.val_interval': 1,
            'param_scheduler.1.end': 1,
            'default_hooks.checkpoint.interval': 1,
        },
        'upernet': {
            'train_cfg.max_iters': 80,
            'train_cfg.val_interval': 80,
            'param_scheduler.1.end': 80,
            'default_hooks.checkpoint.interval': 80,
        },
    },
)


class Demo:
    """The trainings of the demonstration.

    Args:
        length: version of the demonstration.
        mixers: keys of `MIXERS`.
    """

    def __init__(self, length: Length, mixers: Sequence[str] = PAPER_MIXERS) -> None:
        self.length = length
        self.mixers = tuple(mixers)
        self.folder = length.folder
        self.logs = length.folder / 'logs'
        self.config = functools.cache(self._read_config)

    def names(self) -> list[str]:
        """Return the names of all trainings, each after the one whose weights it starts from."""
        dense = [f'{task}_{mixer}_micro' for task in DENSE for mixer in self.mixers]
        pretrained = [name + PRETRAINED_SUFFIX for name in dense]
        return [*map(pretraining_of, self.mixers), *dense, *pretrained]

    def job(self, name: str) -> Job:
        """Return the job of a training."""
        task = _task_of(name)
        folder = self.folder / name
        arguments = ['tools/train.py', *config_arguments(name), '--work-dir', str(folder)]
        after = None
        if name.endswith(PRETRAINED_SUFFIX):
            after = pretraining_of(_mixer_of(name))
            arguments += ['--pretrained', str(self.weights(after))]
        if options := self.length.options.get(task):
            arguments += ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
        work = partial(run_command, *arguments)
        return Job(name, work, folder, self.length.seconds[task], after=after, steps=self.steps(name))

    def weights(self, pretraining: str) -> Path:
        """Return the path of the last checkpoint of a pretraining, which may not exist yet."""
        epochs = self.config(pretraining).train_cfg.max_epochs
        return self.folder / pretraining / f'epoch_{epochs}.pth'

    def steps(self, name: str) -> int:
        """Return the number of iterations of a training, including images without objects."""
        cfg = self.config(name)
        if 'max_iters' in cfg.train_cfg:
            return cfg.train_cfg.max_iters
        splits = PRETRAINING_SPLITS if name.startswith(PRETRAINING) else SPLITS
        return cfg.train_cfg.max_epochs * splits['train'] // cfg.train_dataloader.batch_size

    def digest(self, name: str) -> str:
        """Return a digest of config, data and starting weights of a training."""
        facts = [self.config(name).pretty_text, SceneStyle(), SPLITS]
        facts += [PRETRAINING_STYLE, PRETRAINING_SPLITS, SEED]
        if name.endswith(PRETRAINED_SUFFIX):
            facts.append(self.digest(pretraining_of(_mixer_of(name))))
        return hashlib.sha256(''.join(map(str, facts)).encode()).hexdigest()

    def mark_finished(self, name: str) -> None:
        """Write the stamp that `is_finished` looks for."""
        write_text(self.folder / name / 'finished', self.digest(name) + '\n')

    def is_finished(self, name: str) -> bool:
        """Return whether this training is finished, with the current config and data."""
        stamp = self.folder / name / 'finished'
        is_stamped = stamp.is_file() and stamp.read_text().strip() == self.digest(name)
        return is_stamped and last_checkpoint(self.folder / name) is not None

    def _read_config(self, name: str) -> Config:
        options = dict(self.length.options.get(_task_of(name), {}))
        return open_config(*leaf_of(name), options)[0]


def _task_of(name: str) -> str:
    return next(task for task in (PRETRAINING, *DENSE) if name.startswith(task))


def _mixer_of(name: str) -> str:
    mixer = name.removesuffix(PRETRAINED_SUFFIX).removesuffix('_micro')
    return mixer.removeprefix(f'{_task_of(name)}_')


def leaf_of(name: str) -> tuple[str, str | None]:
    """Return the config file of a training, and the value of `--backbone`; None without the option."""
    file = CONFIGS / f'{name.removesuffix(PRETRAINED_SUFFIX)}.py'
    if file.is_file():
        return str(file), None
    return str(CONFIGS / f'{_task_of(name)}_{USUAL_MIXER}_micro.py'), f'{_mixer_of(name)}_micro'


def config_arguments(name: str) -> list[str]:
    """Return the arguments of a command that select the config of a training."""
    file, backbone = leaf_of(name)
    return [file] if backbone is None else [file, '--backbone', backbone]


def chosen_mixers(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the mixers that `--mixers` names; those of the paper by default.

    Raises:
        UserError: there is no such mixer.
    """
    if not names:
        return PAPER_MIXERS
    if EVERY in names:
        return tuple(MIXERS)
    for name in names:
        if name not in MIXERS:
            choices = ', '.join([EVERY, *MIXERS])
            near = did_you_mean(name, MIXERS) or f'; choose from {choices}'
            raise UserError(f'--mixers {name}: there is no such mixer{near}')
    return tuple(dict.fromkeys(names))


def pretraining_of(mixer: str) -> str:
    """Return the name of the pretraining of a mixer."""
    return f'{PRETRAINING}_{mixer}_micro'


def run_demo(demo: Demo, parallel: int | None) -> None:
    """Run all unfinished trainings, write tables, pictures and report, and print the tables.

    Args:
        demo: trainings.
        parallel: number of trainings at a time; None for one per core.

    Raises:
        UserError: the working directory is not the project's folder, or a training failed.
    """
    if not CONFIGS.is_dir():
        raise UserError(f'{CONFIGS} is missing; start this command in the folder of the project')
    started = time.monotonic()
    parallel, threads = places(parallel)
    print(f'1. Scenes in the layouts of COCO, ADE20K and ImageNet: {DATA}', flush=True)
    run_jobs(scene_jobs(demo), parallel, threads)
    names = demo.names()
    # Reading a config imports the libraries, whose modules the forked processes share.
    with quiet():
        todo = [name for name in names if not demo.is_finished(name)]
    print(
        f'2. Trainings of {len(demo.mixers)} mixers: {len(todo)} to do, {len(names) - len(todo)} '
        f'finished before; {parallel} at a time, {threads} threads each',
        flush=True,
    )
    for name in todo:
        # Files of an earlier training with a different config must not be mistaken for this one's.
        shutil.rmtree(demo.folder / name, ignore_errors=True)
    with quiet():
        jobs = [demo.job(name) for name in todo]
    run_jobs(jobs, parallel, threads, lambda job: demo.mark_finished(job.name))
    print('3. Tables, pictures and report', flush=True)
    write_outputs(demo, parallel, threads)
    print((demo.folder / 'table.md').read_text(encoding='utf-8'))
    print(f'Done in {clock(time.monotonic() - started)}. Everything is in {demo.folder}.')


def scene_jobs(demo: Demo) -> list[Job]:
    """Return the jobs that write the data; existing data are kept."""
    scenes = partial(write_datasets, DATA, SceneStyle(), SPLITS, SEED)
    shapes = partial(write_imagenet, DATA / 'imagenet', PRETRAINING_STYLE, PRETRAINING_SPLITS, SEED)
    return [
        Job('scenes', scenes, demo.logs, seconds=4, log='scenes.log'),
        Job('shapes', shapes, demo.logs, seconds=2, log='shapes.log'),
    ]


def write_outputs(demo: Demo, parallel: int, threads: int) -> None:
    """Write tables, pictures and report, unless they exist for these trainings."""
    names = demo.names()
    stamp = demo.folder / 'outputs.finished'
    digest = hashlib.sha256(''.join(map(demo.digest, names)).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text().strip() == digest:
        return
    stamp.unlink(missing_ok=True)
    folders = [demo.folder / name for name in names]
    run_jobs(
        [
            Job('report', partial(write_report, demo), demo.logs, 24, 'report.log'),
            Job('tables', partial(write_tables, folders, demo.folder), demo.logs, 11, 'tables.log'),
            Job('pictures', partial(write_pictures, demo), demo.logs, 13, 'pictures.log'),
        ],
        parallel,
        threads,
    )
    write_text(stamp, digest + '\n')


def places(parallel: int | None) -> tuple[int, int]:
    """Return the number of parallel jobs, and the number of threads per job.

    Args:
        parallel: requested number of jobs; None for one per core, or one on a GPU.
    """
    cores = os.cpu_count() or 1
    # `is_available` would start CUDA, which processes that are forked later cannot use.
    parallel = parallel or (1 if torch.cuda.device_count() else cores)
    return parallel, max(1, cores // parallel)


def write_report(demo: Demo) -> None:
    """Write the report of all runs, with the analyses that are finished."""
    folders = [demo.folder / name for name in demo.names()]
    page = build_page(folders, [], 'The demonstration', REPORT_IMAGES)
    write_bytes(demo.folder / 'report.html', page)


def write_pictures(demo: Demo) -> None:
    """Draw predictions beside the ground truth, one picture per mixer."""
    for mixer in demo.mixers:
        names = [f'{task}_{mixer}_micro{PRETRAINED_SUFFIX}' for task in DENSE]
        runs = [(demo.config(name), last_checkpoint(demo.folder / name)) for name in names]
        with quiet():
            write_sheet(demo.folder / f'{mixer}.png', predictions_sheet(*runs))
