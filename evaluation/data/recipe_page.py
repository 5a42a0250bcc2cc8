"""Recipe pages for data sets of users: a page of the suite with other data, classes and schedule.

Detectors train for a multiple of COCO's 12 epochs, segmentors for the number of epochs that UperNet's
recipe has on ADE20K. Both are bounded, so that a small set is not seen thousands of times.
"""

import keyword
import math
import re
from dataclasses import dataclass
from pathlib import Path

from evaluation.utils.errors import UserError

PAGES = Path(__file__).resolve().parents[2] / 'configs/_base_'
MARK = 'Written by tools/new_dataset.py'
# Images per step, as in the parent recipes: 8 GPUs with 2 images each.
BATCH = 16
# COCO's 1x schedule: epochs, those after which the rate drops, and steps of the warm-up.
EPOCHS, MILESTONES, DETECTION_WARM_UP = 12, (8, 11), 1000
MOST_REPEATS, ENOUGH_STEPS = 8, 12_000
# ADE20K's 160,000 iterations are 127 epochs of its 20,210 images.
SEGMENTATION_EPOCHS, SEGMENTATION_WARM_UP = 128, 1500
LEAST_ITERATIONS, MOST_ITERATIONS = 2_000, 160_000
# A training is evaluated this often; a warm-up takes at most this part of it.
EVALUATIONS = 10


@dataclass(frozen=True)
class Schedule:
    """Length of a training.

    Attributes:
        length: epochs of a detector, iterations of a segmentor.
        interval: epochs or iterations between two evaluations.
        warm_up: steps of the warm-up.
        text: one sentence about it.
    """

    length: int
    interval: int
    warm_up: int
    text: str


@dataclass(frozen=True)
class NewData:
    """A data set that a page is for.

    Attributes:
        name: name of the data set and its page.
        root: data root, as the page will state it.
        prepared: folder of the written files, relative to the data root.
        classes: names of the classes, in the order of the labels.
        counts: number of training and validation images.
        images: folder of the images, relative to the data root.
    """

    name: str
    root: str
    prepared: str
    classes: list[str]
    counts: tuple[int, int]
    images: str = ''


def detection_schedule(images: int) -> Schedule:
    """Return the schedule of a detector for a number of training images.

    It is COCO's 1x schedule, repeated up to 8 times until the training has 12,000 steps of 16 images.
    """
    steps = EPOCHS * math.ceil(images / BATCH)
    repeats = min(math.ceil(ENOUGH_STEPS / steps), MOST_REPEATS)
    total = repeats * steps
    text = (
        f'{repeats * EPOCHS} epochs ({repeats} x {EPOCHS}) of {images:,} images, {total:,} steps of '
        f'{BATCH} images'
    )
    return Schedule(
        repeats * EPOCHS, repeats, min(DETECTION_WARM_UP, max(total // EVALUATIONS, 1)), text
    )


def segmentation_schedule(images: int) -> Schedule:
    """Return the schedule of a segmentor for a number of training images.

    It is 128 epochs in steps of 16 images, but at least 2,000 and at most 160,000 iterations.
    """
    wanted = math.ceil(SEGMENTATION_EPOCHS * images / BATCH)
    bounded = min(max(wanted, LEAST_ITERATIONS), MOST_ITERATIONS)
    length = math.ceil(bounded / EVALUATIONS) * EVALUATIONS
    text = (
        f'{length:,} iterations of {BATCH} images, {length * BATCH / images:,.0f} epochs of '
        f'{images:,} images'
    )
    part = length // EVALUATIONS
    return Schedule(length, part, min(SEGMENTATION_WARM_UP, part), text)


def check_name(name: str) -> None:
    """Check that a name can be that of a page, which other pages import.

    Raises:
        UserError: it cannot.
    """
    if not re.fullmatch('[a-z][a-z0-9_]*', name) or keyword.iskeyword(name):
        raise UserError(
            f'{name!r} cannot be the name of a recipe page; give --name with lower-case letters, digits '
            'and underscores, such as fruit_2'
        )


def page_path(pages: Path, name: str, may_replace: bool) -> Path:
    """Return the path of a page that can be written.

    Args:
        pages: folder of the pages.
        name: name of the page.
        may_replace: whether a page that `tools/new_dataset.py` wrote may be replaced.

    Raises:
        UserError: the folder has no recipes, or the page exists and must not be replaced.
    """
    path = pages / f'{name}.py'
    if not (pages / 'mask_rcnn_coco_1x.py').is_file():
        raise UserError(f'{pages} has no recipes to import, such as mask_rcnn_coco_1x.py; give --pages')
    if path.exists() and not (path.is_file() and MARK in path.read_text(encoding='utf-8')):
        raise UserError(f'{path} exists and was not written for a data set; give a different --name')
    if path.exists() and not may_replace:
        raise UserError(f'{path} exists; give a different --name, or --force to replace it')
    return path


def object_page(data: NewData, with_masks: bool, schedule: Schedule) -> str:
    """Return a page for Mask R-CNN or, without masks, Faster R-CNN."""
    title = 'Mask R-CNN' if with_masks else 'Faster R-CNN'
    number = len(data.classes)
    if with_masks:
        heads = f'bbox_head=dict(num_classes={number}), mask_head=dict(num_classes={number})'
        model = f'model.update(roi_head=dict({heads}))'
    else:
        heads = f'bbox_head=dict(num_classes={number}), mask_roi_extractor=None, mask_head=None'
        model = f"model.update(type='FasterRCNN', roi_head=dict({heads}))"
    steps = tuple(milestone * schedule.interval for milestone in MILESTONES)
    files = {split: f'{data.prepared}/{split}.json' for split in ('train', 'val')}
    return f"""{_heading(data, title, 'mask_rcnn_coco_1x', schedule, 'instance_segmentation')}
{model}

data_root = {data.root!r}
data = dict(data_root=data_root, metainfo=dict(classes=classes), data_prefix=dict(img=''))
# COCO's smallest size of a training image, 32 pixels, does not apply.
train_dataloader.update(
    dataset=dict(**data, ann_file={files['train']!r}, filter_cfg=dict(min_size=1))
)
val_dataloader.update(dataset=dict(**data, ann_file={files['val']!r}))
test_dataloader = val_dataloader
val_evaluator.update(ann_file=f'{{data_root}}/{files['val']}')
test_evaluator = val_evaluator
del data

train_cfg.update(max_epochs={schedule.length}, val_interval={schedule.interval})
param_scheduler[0].update(end={schedule.warm_up})
param_scheduler[1].update(end={schedule.length}, milestones={list(steps)})
default_hooks.update(checkpoint=dict(interval={schedule.interval}))
"""


def segmentation_page(data: NewData) -> str:
    """Return a page for UperNet."""
    schedule = segmentation_schedule(data.counts[0])
    number = len(data.classes)
    maps = f'{data.prepared}/maps'
    return f"""{_heading(data, 'UperNet', 'upernet_ade20k_160k', schedule, 'semantic_segmentation')}
labels = dict(num_classes={number}, reduce_zero_label=False)
model.update(
    decode_head=dict(num_classes={number}),
    auxiliary_head=dict(num_classes={number}),
)

data_root = {data.root!r}
data = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes),
    reduce_zero_label=False,
    # The lists of images have whole names: IMAGE.png is the map of IMAGE.
    img_suffix='',
    seg_map_suffix='.png',
    data_prefix=dict(img_path={data.images!r}, seg_map_path={maps!r}),
)
train_pipeline[1].update(labels)
test_pipeline[2].update(reduce_zero_label=False)
tta_pipeline[1].transforms[2][0].update(labels)
train_dataloader.update(
    dataset=dict(**data, ann_file={f'{data.prepared}/train.txt'!r}, pipeline=train_pipeline)
)
val_dataloader.update(
    dataset=dict(**data, ann_file={f'{data.prepared}/val.txt'!r}, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
del data, labels

train_cfg.update(max_iters={schedule.length}, val_interval={schedule.interval})
param_scheduler[0].update(end={schedule.warm_up})
param_scheduler[1].update(begin={schedule.warm_up}, end={schedule.length})
default_hooks.update(checkpoint=dict(interval={schedule.interval}))
"""


def _heading(data: NewData, title: str, parent: str, schedule: Schedule, task: str) -> str:
    """Return the docstring, imports, recipe and classes of a page."""
    train, val = data.counts
    names = ''.join(f'    {name!r},\n' for name in data.classes)
    return f'''"""{title} on {data.name}: the recipe {parent} with the data and classes of {data.name}.

    python tools/train.py configs/_base_/{data.name}.py --backbone swin_tiny \\
      --pretrained released --auto-scale-lr

{MARK}: {train:,} training images, {val:,} validation images, classes: {len(data.classes)}.
Schedule: {schedule.text}.
Everything else, such as the learning rate for {BATCH} images per step, is that of {parent}.
"""

from mmengine.config import read_base

with read_base():
    from .{parent} import *

recipe = dict(
    name={data.name!r},
    task={task!r},
    title={title!r},
    dataset={f'{data.name} val'!r},
)
classes = (
{names})'''
