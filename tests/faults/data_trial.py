"""One fuzz trial: damage data, use them as a training and an evaluation do, and check them."""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import METRICS, DefaultScope
from PIL import Image
from pycocotools import mask as coco_mask

from evaluation.engine.experiment import add_common_arguments, load_config
from evaluation.engine.runner import BenchmarkRunner
from evaluation.utils.errors import BAD_INPUT, CommandLine, UserError, command
from tests.commands import ROOT, option_list
from tests.faults.image_mutations import mutate_image, mutate_map
from tests.faults.json_mutations import BYTES, mutate_json
from tools.check_data import examine

LOADERS = ('train_dataloader', 'val_dataloader')
SIZE = (64, 64)
WORKERS = {
    f'{loader}.{key}': value
    for loader in LOADERS
    for key, value in (('num_workers', 0), ('persistent_workers', False), ('batch_size', 4))
}


class SilentError(Exception):
    """Damaged data were accepted and gave a wrong result."""


@dataclass(frozen=True)
class Task:
    """A task whose data are damaged.

    Attributes:
        config: name of a demonstration config.
        folder: name of the folder of its data.
        options: overrides of the config.
        targets: file patterns, each with the function that damages a file.
    """

    config: str
    folder: str
    options: dict[str, object]
    targets: tuple[tuple[str, Callable[[Path, Random], str]], ...]


def mutate_list(file: Path, random: Random) -> str:
    """Damage a file of lines."""
    return random.choice(BYTES)(file, random)


TASKS = {
    'coco': Task(
        'mask_rcnn_swin_micro',
        'coco',
        {
            **WORKERS,
            'train_dataloader.dataset.pipeline.2.scale': SIZE,
            'val_dataloader.dataset.pipeline.1.scale': SIZE,
        },
        (
            ('annotations/*.json', mutate_json),
            ('annotations/*.json', mutate_json),
            ('annotations/*.json', mutate_json),
            ('*2017/*.jpg', mutate_image),
        ),
    ),
    'ade20k': Task(
        'upernet_dcn_micro',
        'ADEChallengeData2016',
        {**WORKERS, 'val_dataloader.dataset.pipeline.1.scale': SIZE},
        (
            ('images/*/*.jpg', mutate_image),
            ('annotations/*/*.png', mutate_map),
            ('annotations/*/*.png', mutate_map),
        ),
    ),
    'imagenet': Task(
        'imagenet_swin_micro',
        'imagenet',
        {**WORKERS, 'model.backbone.num_classes': 4},
        (('*/*.JPEG', mutate_image), ('meta/*.txt', mutate_list)),
    ),
}


def damage(root: Path, task: Task, random: Random) -> tuple[str, Path]:
    """Damage one file below `root`; return a description of the damage, and the file."""
    pattern, mutate = random.choice(task.targets)
    file = random.choice(sorted(root.glob(pattern)))
    return f'{file.relative_to(root)}: {mutate(file, random)}', file


def arguments_of(task: Task, root: Path, skip_bad_images: bool) -> argparse.Namespace:
    """Return the parsed command line of a training on these data."""
    parser = CommandLine('')
    parser.add_argument('config')
    add_common_arguments(parser)
    skip = ['--skip-bad-images'] * skip_bad_images
    config = str(ROOT / f'configs/demo/{task.config}.py')
    work_dir = ['--work-dir', str(root.parent / 'run')]
    options = option_list(task.options)
    return parser.parse_args([config, '--data-root', str(root), *work_dir, *skip, *options])


def use(task: Task, root: Path, skip_bad_images: bool) -> dict[str, list[dict]]:
    """Do all that a training does with data: check them, and load every sample.

    Returns:
        the config under `cfg`, and under `metric` the COCO metric, or None for other tasks.

    Raises:
        UserError: the data are bad.
    """
    cfg = load_config(arguments_of(task, root, skip_bad_images), LOADERS)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loaders = {name: BenchmarkRunner.build_dataloader(cfg[name], seed=0) for name in LOADERS}
        for loader in loaders.values():
            for number, batch in enumerate(loader, start=1):
                # The runner raises it before a step.
                if isinstance(batch, UserError):
                    raise batch
                if number >= len(loader.dataset):
                    break
        metric = None
        if task.folder == 'coco':
            metric = METRICS.build(cfg.val_evaluator)
            metric.dataset_meta = loaders['val_dataloader'].dataset.metainfo
    return {'cfg': cfg, 'metric': metric}


def check_truth_is_perfect(metric: object, file: Path) -> None:
    """Evaluate the ground truth as predictions, which must have an AP of 100.

    Raises:
        SilentError: the AP is different.
    """
    content = json.loads(file.read_text())
    names = [category['name'] for category in content['categories']]
    labels = {c['id']: metric.dataset_meta['classes'].index(c['name']) for c in content['categories']
              if c['name'] in metric.dataset_meta['classes']}  # fmt: skip
    assert len(labels) <= len(names)
    for image in content['images']:
        found = [
            annotation
            for annotation in content['annotations']
            if annotation['image_id'] == image['id']
            and annotation['category_id'] in labels
            and not annotation['iscrowd']
        ]
        metric.process({}, [prediction(image, found, labels)])
    with contextlib.redirect_stdout(io.StringIO()):
        metric.compute_metrics(metric.results)
    for name in ('box_AP', 'mask_AP'):
        value = metric.report.metrics[name]
        if value is not None and abs(value - 100) > 1e-6:
            raise SilentError(f'the truth has a {name} of {value}')


def prediction(image: dict, annotations: list[dict], labels: dict) -> dict:
    """Return the annotations of an image in the form of a detector's predictions."""
    height, width = image['height'], image['width']
    masks = np.zeros((len(annotations), height, width), bool)
    for mask, annotation in zip(masks, annotations, strict=True):
        shape = annotation['segmentation']
        if isinstance(shape, list):
            code = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
        else:
            code = coco_mask.frPyObjects([shape], height, width)[0]
        mask[:] = coco_mask.decode(code)
    boxes = np.array([a['bbox'] for a in annotations], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        'img_id': image['id'],
        'pred_instances': {
            'bboxes': torch.from_numpy(boxes),
            'scores': torch.linspace(1, 0.5, len(annotations)),
            'labels': torch.tensor([labels[a['category_id']] for a in annotations], dtype=torch.int64),
            'masks': torch.from_numpy(masks),
        },
    }


def check_map_is_unchanged(file: Path, before: np.ndarray) -> None:
    """Check that a map that was accepted with damaged bytes still has its labels.

    Raises:
        SilentError: the labels are different.
    """
    with Image.open(file) as image:
        labels = np.asarray(image)
    if not np.array_equal(labels, before):
        raise SilentError('the labels differ from those before the damage')


def look(root: Path) -> int:
    """Return the number of findings of `tools/check_data.py`.

    Raises:
        UserError: the data cannot be read at all.
    """
    return len(
        examine(
            argparse.Namespace(
                data_root=root,
                kind=None,
                num_classes=8 if (root / 'images').is_dir() else None,
                keep_zero_label=False,
                workers=1,
                fix=None,
                config=None,
            )
        ).findings
    )


def ending_of(step: Callable[[], None]) -> tuple[int, str]:
    """Run a step as the commands do; return its exit status and output."""
    errors = io.StringIO()
    status = 0
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
        try:
            command(step)()
        except SystemExit as end:
            status = int(end.code or 0)
    return status, errors.getvalue()


def run_trial(source: Path, folder: Path, name: str, seed: int) -> dict:
    """Damage a copy of a task's data and use it; run this in a separate process.

    Returns:
        the damage (`what`), exit `status`, last output `line`, and `fault`: what went wrong, or None.
    """
    random = Random(f'{name} {seed}')
    task = TASKS[name]
    root = shutil.copytree(source / task.folder, folder / task.folder)
    originals = {file: np.asarray(Image.open(file)) for file in root.glob('annotations/*/*.png')}
    what, file = damage(root, task, random)
    skip = file.suffix != '.json' and random.random() < 0.3
    used: dict[str, Config] = {}
    status, output = ending_of(lambda: used.update(use(task, root, skip)))
    last = output.strip().splitlines()[-1] if output.strip() else ''
    result = {'what': what + ', skipping' * skip, 'status': status, 'line': last, 'fault': None}
    errors = [line for line in output.splitlines() if line.startswith('error: ')]
    if status not in (0, BAD_INPUT) or (status == BAD_INPUT and errors != [last]):
        return {**result, 'fault': 'no clear line'}
    if status == 0 and not skip:
        is_odd = 'mark nothing that can be learned' in output
        if used.get('metric') is not None and not is_odd:
            check_truth_is_perfect(used['metric'], root / 'annotations/instances_val2017.json')
        if file in originals and file.is_file() and 'label' not in what and 'of ' not in what:
            check_map_is_unchanged(file, originals[file])
    found: list[int] = []
    examined, _ = ending_of(lambda: found.append(look(root)))
    if examined not in (0, BAD_INPUT):
        return {**result, 'fault': 'check_data fails'}
    if status == BAD_INPUT and examined == 0 and found == [0]:
        return {**result, 'fault': 'check_data finds nothing'}
    return result


def report(result: dict, output: int) -> None:
    """Write a result to a file descriptor, and end this process."""
    os.write(output, json.dumps(result).encode())
    sys.stdout.flush()
    os._exit(0)
