"""Per-image losses as functions of the pixels, for attacks to increase.

The model stays in eval mode, so batch norms keep their statistics and no path is dropped. Pixels range
from 0 to 255; the model's preprocessor normalizes them inside the graph.
"""

from collections.abc import Sequence
from functools import singledispatch

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.models import SingleStageDetector, TwoStageDetector
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import BaseDataElement, InstanceData
from pycocotools import mask as coco_mask
from torch import Tensor, nn

from evaluation.analysis.adapter import Adapter
from evaluation.analysis.classifiers import Classification
from evaluation.analysis.detectors import Detection, Objects
from evaluation.analysis.robustness.attacks import Loss
from evaluation.analysis.segmentors import Segmentation
from evaluation.metrics.class_metrics import IGNORED
from evaluation.utils.errors import UserError
from evaluation.utils.random_state import seeded

ADVICE = 'so it cannot be attacked; disable attacks with --attacks none'


def classification_loss(model: nn.Module, labels: Tensor) -> Loss:
    """Return the cross-entropy as a function of the images.

    Args:
        model: an `ImageClassifier`.
        labels: (B,), labels of the images.
    """

    def loss(images: Tensor) -> Tensor:
        logits = model(model.data_preprocessor({'inputs': list(images)})['inputs'])
        return F.cross_entropy(logits.float(), labels.to(logits.device), reduction='none')

    return loss


def segmentation_loss(model: nn.Module, maps: Tensor) -> Loss:
    """Return the mean cross-entropy over labeled pixels, at image size, as a function of the images.

    Args:
        model: an mmseg segmentor with mutually exclusive classes; one channel stands for two classes.
        maps: (B, H, W), label maps of the images; `IGNORED` for unlabeled pixels.
    """

    def loss(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        facts = {'img_shape': (height, width), 'ori_shape': (height, width)}
        samples = [BaseDataElement(metainfo=facts) for _ in images]
        inputs = model.data_preprocessor({'inputs': list(images), 'data_samples': samples})['inputs']
        metas = [{**sample.metainfo, 'pad_shape': tuple(inputs.shape[2:])} for sample in samples]
        logits = model.encode_decode(inputs, metas)[:, :, :height, :width]
        labels = maps.to(logits.device, torch.int64)
        if logits.shape[1] == 1:
            # The channel is the logit of class 1. With logit 0 for class 0, softmax equals sigmoid.
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        losses = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction='none')
        return losses.sum((1, 2)) / (labels != IGNORED).sum((1, 2)).clamp(min=1)

    return loss


def instance_loss(
    model: nn.Module, truths: Sequence[InstanceData], seeds: Sequence[Sequence[int]]
) -> Loss:
    """Return the sum of all training losses of a detector as a function of the images.

    Detectors sample anchors and proposals at random; each image has its own seed, so its loss depends
    only on its pixels. Images are processed one at a time, since losses in a batch share normalizers.

    Args:
        model: a one-stage or two-stage mmdet detector; masks are used if it has a mask head.
        truths: ground truth of each image: `bboxes` (N, 4), corners in pixels, `labels` (N,), and
            `masks` (N, H, W), uint8.
        seeds: seed of each image, a sequence of integers.
    """

    def loss(images: Tensor) -> Tensor:
        each = zip(images, truths, seeds, strict=True)
        return torch.stack([_loss_of_image(model, image, truth, seed) for image, truth, seed in each])

    return loss


def _loss_of_image(model: nn.Module, image: Tensor, truth: InstanceData, seed: Sequence[int]) -> Tensor:
    height, width = image.shape[1:]
    facts = {
        'img_shape': (height, width),
        'ori_shape': (height, width),
        'scale_factor': (1.0, 1.0),
    }
    masks = np.asarray(truth.masks, np.uint8).reshape(-1, height, width)
    sample = DetDataSample(metainfo=facts)
    sample.gt_instances = InstanceData(
        bboxes=torch.as_tensor(truth.bboxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.as_tensor(truth.labels, dtype=torch.int64),
        masks=BitmapMasks(masks, height, width),
    )
    data = model.data_preprocessor({'inputs': [image], 'data_samples': [sample]})
    with seeded(*seed):
        losses = model.loss(data['inputs'], data['data_samples'])
    return model.parse_losses(losses)[0]


@singledispatch
def check_attackable(task: Adapter, model: nn.Module) -> None:
    """Check that attacks support the model.

    Args:
        task: adapter for the model's task.
        model: model in eval mode.

    Raises:
        UserError: attacks do not support the model.
    """


@check_attackable.register
def _(task: Detection, model: nn.Module) -> None:
    if not isinstance(model, (TwoStageDetector, SingleStageDetector)):
        raise UserError(
            f'{type(model).__name__} is neither a two-stage detector (such as Mask R-CNN) nor a '
            f'single-stage detector (such as RetinaNet), {ADVICE}'
        )


@check_attackable.register
def _(task: Segmentation, model: nn.Module) -> None:
    if model.out_channels < 2:
        raise UserError(f'{type(model).__name__} has only one logit channel, {ADVICE}')


@singledispatch
def loss_of(task: Adapter, model: nn.Module, truths: Sequence, seeds: Sequence[Sequence[int]]) -> Loss:
    """Return the loss of some images as a function of their pixels.

    Args:
        task: adapter for the model's task.
        model: model in eval mode.
        truths: ground truth of the images, in the format of the task's samples.
        seeds: seed of each image, a sequence of integers.

    Raises:
        UserError: the task does not support attacks.
    """
    raise UserError(f'attacks do not support the loss of a {task.name} model, {ADVICE}')


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
    """Return the training targets of a detector: all objects except crowds, masks (N, H, W), uint8."""
    kept = np.flatnonzero(~truth.crowd)
    codes = truth.codes()
    masks = [coco_mask.decode(codes[place]) for place in kept]
    return InstanceData(
        bboxes=truth.boxes[kept].astype(np.float32),
        labels=truth.labels[kept],
        masks=np.stack(masks) if masks else np.zeros((0, *truth.size), np.uint8),
    )
