"""Work dirs with made-up figures, for reports of any size."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from backbones import PAPER_MIXERS
from evaluation.analysis.receptive_field import result as receptive_field
from evaluation.analysis.robustness.result import write_profile
from tests.evaluation.analysis.robustness.profiles import profile

SCALES = ('micro', 'tiny', 'small', 'base')
# Parameters of whole detectors by scale; unknown scales use `tiny`.
PARAMETERS = dict(zip(SCALES, (24_123_456, 48_123_456, 69_123_456, 107_123_456), strict=True))
START = '20260101_120000'
HEADLINES = {
    'mask_rcnn': ('box_AP', 'box_AP50', 'box_AP75', 'mask_AP', 'mask_AP50', 'mask_AP75'),
    'upernet': ('mIoU', 'mAcc', 'aAcc'),
    'imagenet': ('top1', 'top5'),
}
PER_CLASS = {'mask_rcnn': ('box_AP', 'mask_AP'), 'upernet': ('IoU', 'Acc'), 'imagenet': ('top1',)}
DATASETS = {
    'mask_rcnn': ('COCO val2017', 5000),
    'upernet': ('ADE20K val', 2000),
    'imagenet': ('ImageNet-1k val', 50_000),
}


def document(task='mask_rcnn', mixer='swin', scale='tiny', value=40.0, classes=3, **changes):
    """Return a result of schema version 1; `changes` replace top-level keys."""
    dataset, images = DATASETS[task]
    backbone = f'{mixer}_{scale}'
    by_epoch = task != 'upernet'
    parameters = PARAMETERS.get(scale, PARAMETERS['tiny'])
    metrics = {name: max(0.0, value - 3 * i) for i, name in enumerate(HEADLINES[task])}
    if task == 'mask_rcnn':
        metrics |= {'box_APs': value / 2, 'box_APm': value, 'box_APl': None}
    whole = {
        'schema_version': 1,
        'task': task,
        'mixer': mixer,
        'scale': scale,
        'backbone': backbone,
        'dataset': dataset,
        'images': images,
        'metrics': metrics,
        'per_class': {
            metric: {f'class {i}': (value + 7 * i) % 100 for i in range(classes)}
            for metric in PER_CLASS[task]
        },
        'config': {'name': f'{task}_{backbone}', 'text': f"model = dict(type='{task}')\n"},
        'checkpoint': {'file': 'last.pth', 'sha256': 'a1' * 32, 'weights_sha256': backbone + task},
        'epoch': 12 if by_epoch else None,
        'iteration': 87960 if by_epoch else 160_000,
        'max_epochs': 12 if by_epoch else None,
        'max_iterations': None if by_epoch else 160_000,
        'parameters': {'total': parameters, 'backbone': parameters - 18_000_000},
        'complexity': {
            'flops': round((150 + 50 * SCALES.index(scale) + 10 * PAPER_MIXERS.index(mixer)) * 1e9)
            if scale in SCALES and mixer in PAPER_MIXERS
            else 200_000_000_000,
            'parameters': parameters,
            'height': 800,
            'width': 1280,
            'parts': [],
            'uncounted_operators': [],
        },
        'seed': 0,
        'recipe': None,
        'initialization': 'released',
        'test_time_augmentation': False,
        'versions': {'torch': '2.11.0'},
        'git': {'revision': 'c3' * 20, 'dirty': False},
        'hardware': {'gpus': ['H100'], 'world_size': 8},
        'wall_time_seconds': 12.5,
        'created': '2026-01-01T00:00:00+00:00',
    }
    assert changes.keys() <= whole.keys()
    return whole | changes


def write_run(folder: Path, content: dict, lines: int = 0) -> Path:
    """Write a training with its evaluation and a log with some lines; return the result file."""
    file = folder / START / 'epoch_12' / 'result.json'
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(content))
    if lines:
        write_scalars(folder, START, [scalars(step, loss=3 / step) for step in range(1, lines + 1)])
    return file


def scalars(step: int, **values: float) -> dict:
    """Return a line of the log of a training."""
    return {'lr': 1e-4, 'data_time': 0.1, 'time': 0.2, 'epoch': 1, 'iter': step, 'step': step, **values}


def write_scalars(folder: Path, start: str, entries: list) -> Path:
    """Write the log of one start; text entries are written unchanged."""
    file = folder / start / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    file.write_text('\n'.join(lines))
    return file


def write_analyses(folder: Path, weights: str, side: int = 32, number: int = 0) -> None:
    """Write receptive fields and robustness of some weights."""
    analysis = folder / 'analysis'
    analysis.mkdir(parents=True, exist_ok=True)
    checkpoint = {'file': 'last.pth', 'sha256': 'a', 'weights_sha256': weights}
    at = np.abs(np.arange(side) - side // 2)
    profiles = [np.exp(-at / (1 + number + stage)) for stage in range(4)]
    noise = np.random.default_rng(number).random((side, side))
    targets = [
        receptive_field.TargetResult(f'stage{i + 1}', (8, 8), 9, np.outer(p, p) * (0.5 + noise))
        for i, p in enumerate(profiles)
    ]
    images = {'folder': 'data', 'count': 9, 'sha256': 'i'}
    receptive_field.write_result(
        receptive_field.ReceptiveFieldResult(
            'config', {}, checkpoint, images, side, 1, None, 'cpu', targets
        ),
        analysis / 'erf.json',
    )
    found = profile('mask_rcnn_swin_tiny', 'detection', ('box AP', 'mask AP'), clean=40 + number)
    found = replace(found, facts={**found.facts, 'checkpoint': checkpoint})
    write_profile(found, analysis / 'robustness.json')


def write_matrix(folder: Path, lines: int = 300, classes: int = 80, side: int = 64) -> int:
    """Write detectors with two seeds and segmentors of the five mixers and scales; return the number."""
    count = 0
    for task, seed in (('mask_rcnn', 0), ('mask_rcnn', 1), ('upernet', 0)):
        for mixer in PAPER_MIXERS:
            for scale in SCALES:
                value = 30 + 4 * SCALES.index(scale) + 3 * math.sin(count)
                content = document(task, mixer, scale, value, classes, seed=seed)
                weights = f'{task} {mixer} {scale} {seed}'
                content['checkpoint'] = {**content['checkpoint'], 'weights_sha256': weights}
                content['config'] = {
                    'name': f'{task}_{mixer}_{scale}',
                    'text': ''.join(f'setting_{i} = dict(type={mixer + scale!r})\n' for i in range(250)),
                }
                run = folder / f'{task}_{mixer}_{scale}_{seed}'
                write_run(run, content, lines)
                write_analyses(run, weights, side, count)
                count += 1
    return count
