"""A batch of training images with generated targets."""

import numpy as np
import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from evaluation.models.classifier import ImageClassifier
from evaluation.utils.errors import UserError

# Least and greatest side of an object, as a fraction of the image's.
_SIDES = (0.1, 0.4)


def training_batch(
    model: nn.Module, images: int, height: int, width: int, objects: int, device: torch.device
) -> tuple[Tensor, list[BaseDataElement]]:
    """Generate images and targets for the loss of a model, on a device.

    Args:
        model: detector, segmentor or classifier.
        images: number of images B.
        height, width: size of the images in pixels.
        objects: number of objects on each image, for a detector.
        device: device of the tensors.

    Returns:
        Images, (B, 3, height, width), and a sample for each.

    Raises:
        UserError: the model is of a different kind.
    """
    pixels = torch.randn(images, 3, height, width, device=device)
    if isinstance(model, BaseDetector):
        sample = _objects
    elif isinstance(model, BaseSegmentor):
        sample = _class_map
    elif isinstance(model, ImageClassifier):
        sample = _label
    else:
        raise UserError(
            f'memory of {type(model).__name__} cannot be predicted; supported are detectors, '
            'segmentors and ImageClassifier'
        )
    return pixels, [sample((height, width), objects, device) for _ in range(images)]


def _objects(size: tuple[int, int], objects: int, device: torch.device) -> DetDataSample:
    """Return objects of class 0 with random boxes, and empty masks."""
    sides = torch.tensor(size[::-1], dtype=torch.float32, device=device)
    extent = sides * torch.empty(objects, 2, device=device).uniform_(*_SIDES)
    corner = (sides - extent) * torch.rand(objects, 2, device=device)
    truth = InstanceData(
        bboxes=torch.cat([corner, corner + extent], dim=1),
        labels=torch.zeros(objects, dtype=torch.int64, device=device),
        # One map in memory for all objects.
        masks=BitmapMasks(np.broadcast_to(np.uint8(0), (objects, *size)), *size),
    )
    facts = {
        'ori_shape': size,
        'img_shape': size,
        'pad_shape': size,
        'batch_input_shape': size,
        'scale_factor': (1.0, 1.0),
    }
    return DetDataSample(metainfo=facts, gt_instances=truth, ignored_instances=_none(device))


def _none(device: torch.device) -> InstanceData:
    return InstanceData(
        bboxes=torch.zeros(0, 4, device=device),
        labels=torch.zeros(0, dtype=torch.int64, device=device),
    )


def _class_map(size: tuple[int, int], objects: int, device: torch.device) -> SegDataSample:
    """Return a map of class 0."""
    facts = {'ori_shape': size, 'img_shape': size, 'pad_shape': size}
    classes = torch.zeros(1, *size, dtype=torch.int64, device=device)
    return SegDataSample(metainfo=facts, gt_sem_seg=PixelData(data=classes))


def _label(size: tuple[int, int], objects: int, device: torch.device) -> BaseDataElement:
    sample = BaseDataElement()
    sample.set_field(torch.zeros((), dtype=torch.int64, device=device), 'gt_label')
    return sample
