"""The loss of a task's samples, for an attack to raise."""

from collections.abc import Sequence

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
from evaluation.analysis.tasks.objects import Objects
from evaluation.utils.errors import UserError

ADVICE = 'so it cannot be attacked; leave the attacks out with --attacks none'


def check_attackable(model: nn.Module, task: str) -> None:
    """See that there is a loss to raise.

    Raises:
        UserError: there is none.
    """
    if task == 'detection' and not isinstance(model, (TwoStageDetector, SingleStageDetector)):
        raise UserError(
            f'{type(model).__name__} is neither a two-stage detector, such as Mask R-CNN, nor a '
            f'single-stage one, such as RetinaNet, {ADVICE}'
        )
    if task == 'segmentation' and model.out_channels < 2:
        raise UserError(f'{type(model).__name__} has a single channel of logits, {ADVICE}')


def loss_of(model: nn.Module, task: str, truths: Sequence, seeds: Sequence[Sequence[int]]) -> Loss:
    """The loss of some images.

    Args:
        model: in eval mode.
        task: name of its task.
        truths: of the images, as the task's samples have them.
        seeds: of each image, whole numbers.
    """
    if task == 'classification':
        return classification_loss(model, torch.tensor([int(truth) for truth in truths]))
    if task == 'segmentation':
        return segmentation_loss(model, torch.from_numpy(np.stack(truths)))
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
