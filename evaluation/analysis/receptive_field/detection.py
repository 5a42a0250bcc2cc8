"""The class score of a detection, which depends on the image by a differentiable computation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn


@dataclass(frozen=True)
class TopDetections:
    """The highest-scoring detection of each image that has one.

    Attributes:
        images: numbers of the images in the batch.
        scores: (len(images),), the class's score before the softmax.
        middles: of the boxes, (row, column) in pixels.
    """

    images: list[int]
    scores: Tensor
    middles: list[tuple[int, int]]


def top_detections(model: nn.Module, features: Sequence[Tensor], size: int) -> TopDetections | None:
    """Find the best detection of each image, and score its box anew; None where there is none at all.

    The box stands still: the gradient is that of the score of this place, and does not flow through the
    proposal that led there. The score is taken before the softmax, whose gradient vanishes where the
    detector is sure.

    Args:
        model: a two-stage detector with a `StandardRoIHead`.
        features: levels of the neck, each (B, C, h, w).
        size: side of the images, in pixels.
    """
    found = [
        (index, boxes[0], int(labels[0]))
        for index, (boxes, labels) in enumerate(_detect(model, features, size))
        if len(boxes)
    ]
    if not found:
        return None
    images, boxes, labels = zip(*found, strict=True)
    regions = torch.stack(
        [torch.cat([box.new_tensor([i]), box]) for i, box in zip(images, boxes, strict=True)]
    )
    scores = model.roi_head._bbox_forward(tuple(features), regions)['cls_score']
    middles = [_middle(box.tolist(), size) for box in boxes]
    return TopDetections(list(images), scores[range(len(images)), list(labels)], middles)


def _detect(model: nn.Module, features: Sequence[Tensor], size: int) -> list[tuple[Tensor, Tensor]]:
    """Boxes (N, 4) and labels (N,) of each image, the highest score first."""
    features = tuple(each.detach() for each in features)
    facts = {
        'img_shape': (size, size),
        'ori_shape': (size, size),
        'pad_shape': (size, size),
        'batch_input_shape': (size, size),
        'scale_factor': (1.0, 1.0),
    }
    samples = [DetDataSample(metainfo=facts) for _ in range(len(features[0]))]
    with torch.no_grad():
        proposals = model.rpn_head.predict(features, samples, rescale=False)
        results = model.roi_head.predict_bbox(
            features, [facts] * len(samples), proposals, model.roi_head.test_cfg, rescale=False
        )
    by_score = [result[result.scores.argsort(descending=True, stable=True)] for result in results]
    return [(result.bboxes, result.labels) for result in by_score]


def _middle(box: Sequence[float], size: int) -> tuple[int, int]:
    """Row and column of the pixel in the middle of a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    row, column = ((first + last) / 2 for first, last in ((top, bottom), (left, right)))
    return min(int(row), size - 1), min(int(column), size - 1)
