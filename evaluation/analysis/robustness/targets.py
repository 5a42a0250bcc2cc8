"""The loss of a task's samples, for an attack to raise."""

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
import torch
from mmdet.models import SingleStageDetector, TwoStageDetector
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask
from torch import nn

from evaluation.analysis.robustness.attacks import Loss
from evaluation.analysis.robustness.losses import (
    classification_loss,
    instance_loss,
    segmentation_loss,
)
from evaluation.analysis.tasks.adapter import Adapter
from evaluation.analysis.tasks.classification import Classification
from evaluation.analysis.tasks.detection import Detection
from evaluation.analysis.tasks.objects import Objects
from evaluation.analysis.tasks.segmentation import Segmentation
from evaluation.utils.errors import UserError

ADVICE = 'so it cannot be attacked; leave the attacks out with --attacks none'


@singledispatch
def check_attackable(task: Adapter, model: nn.Module) -> None:
    """Check that there is a loss to raise.

    Args:
        task: adapter of the model's task.
        model: in eval mode.

    Raises:
        UserError: there is none.
    """


@check_attackable.register
def _(task: Detection, model: nn.Module) -> None:
    if not isinstance(model, (TwoStageDetector, SingleStageDetector)):
        raise UserError(
            f'{type(model).__name__} is neither a two-stage detector, such as Mask R-CNN, nor a '
            f'single-stage one, such as RetinaNet, {ADVICE}'
        )


@check_attackable.register
def _(task: Segmentation, model: nn.Module) -> None:
    if model.out_channels < 2:
        raise UserError(f'{type(model).__name__} has a single channel of logits, {ADVICE}')


@singledispatch
def loss_of(task: Adapter, model: nn.Module, truths: Sequence, seeds: Sequence[Sequence[int]]) -> Loss:
    """Return the loss of some images.

    Args:
        task: adapter of the model's task.
        model: in eval mode.
        truths: of the images, as the task's samples have them.
        seeds: of each image, whole numbers.

    Raises:
        UserError: there is none for this task.
    """
    raise UserError(f'models of {task.name} have no loss to raise, {ADVICE}')


@loss_of.register
def _(task: Classification, model: nn.Module, truths: Sequence[int], seeds: Sequence) -> Loss:
    return classification_loss(model, torch.tensor([int(truth) for truth in truths]))


@loss_of.register
def _(task: Segmentation, model: nn.Module, truths: Sequence[np.ndarray], seeds: Sequence) -> Loss:
    return segmentation_loss(model, torch.from_numpy(np.stack(truths)))


@loss_of.register
def _(task: Detection, model: nn.Module, truths: Sequence[Objects], seeds: Sequence) -> Loss:
    return instance_loss(model, [instances(truth) for truth in truths], seeds)


def instances(truth: Objects) -> InstanceData:
    """What a detector is trained on: all objects but crowds, their masks as (N, H, W), uint8."""
    kept = np.flatnonzero(~truth.crowd)
    codes = truth.codes()
    masks = [coco_mask.decode(codes[place]) for place in kept]
    return InstanceData(
        bboxes=truth.boxes[kept].astype(np.float32),
        labels=truth.labels[kept],
        masks=np.stack(masks) if masks else np.zeros((0, *truth.size), np.uint8),
    )
