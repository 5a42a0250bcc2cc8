"""The loss of each image as a function of its pixels, for an attack to raise.

The model stays in eval mode, so that batch norms keep their statistics and no path is dropped. Pixels
are those before the model's preprocessor, 0 to 255, which normalizes them inside the graph.
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
from evaluation.metrics.mean_iou import IGNORED
from evaluation.utils.errors import UserError
from evaluation.utils.random_state import seeded

ADVICE = 'so it cannot be attacked; leave the attacks out with --attacks none'


def classification_loss(model: nn.Module, labels: Tensor) -> Loss:
    """Cross-entropy.

    Args:
        model: an `ImageClassifier`.
        labels: (B,), of the images that the loss will be asked for.
    """

    def loss(images: Tensor) -> Tensor:
        logits = model(model.data_preprocessor({'inputs': list(images)})['inputs'])
        return F.cross_entropy(logits.float(), labels.to(logits.device), reduction='none')

    return loss


def segmentation_loss(model: nn.Module, maps: Tensor) -> Loss:
    """Cross-entropy of the decode head's logits at the size of the image, mean over labelled pixels.

    Args:
        model: a segmentor of mmseg whose classes exclude each other; one channel stands for two.
        maps: (B, H, W), labels of the images that the loss will be asked for; `IGNORED` for none.
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
            # The logit of class 1, against class 0's of zero: then softmax is the sigmoid.
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        losses = F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction='none')
        return losses.sum((1, 2)) / (labels != IGNORED).sum((1, 2)).clamp(min=1)

    return loss


def instance_loss(
    model: nn.Module, truths: Sequence[InstanceData], seeds: Sequence[Sequence[int]]
) -> Loss:
    """The training loss: all that the detector adds up, from proposals to masks.

    It samples anchors and proposals at random; each image has a seed of its own, so that its loss
    depends on its pixels alone. One image at a time: in a batch they would share what they are
    divided by.

    Args:
        model: a detector of mmdet of one stage or two; masks are used where it has a head for them.
        truths: of each image that the loss will be asked for `bboxes` (N, 4) as corners in pixels,
            `labels` (N,), and `masks` (N, H, W) of uint8.
        seeds: of each image, whole numbers.
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
