"""Targets, which are named values of a network, and the contribution of each pixel to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import DetDataSample
from torch import Tensor, nn

from backbones import BackboneError, UnifiedClassifier
from evaluation.utils.errors import UserError, did_you_mean

STAGE, NECK, LOGITS, SCORE = 'stage', 'neck', 'logits', 'score'

# Height and width of a target's map.
Grid = tuple[int, int]


def grids_of_targets(model: nn.Module, size: int) -> dict[str, Grid]:
    """Return height and width of the map of every target of a model except `score`.

    Args:
        model: a detector, segmentor or classifier on the `meta` device, in eval mode.
        size: side of the image, in pixels.

    Raises:
        UserError: the model does not support images of this size.
    """
    names = [STAGE, *([NECK] if _has_neck(model) else []), *([LOGITS] if _has_logits(model) else [])]
    try:
        with torch.no_grad():
            maps = feature_maps(model, torch.empty(1, 3, size, size, device='meta'), names)
    except (BackboneError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f'the model does not support images of {size}x{size}: {reason}') from error
    return {name: tuple(feature_map.shape[2:]) for name, feature_map in maps.items()}


def has_scores(model: nn.Module) -> bool:
    """Return whether a model is a detector whose box head gives one score per box and class."""
    return isinstance(getattr(model, 'roi_head', None), StandardRoIHead) and model.with_rpn


def feature_maps(model: nn.Module, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Run a model as far as targets need and return its feature maps.

    Args:
        model: a detector, segmentor or classifier.
        images: (B, 3, H, W), normalized.
        names: names of targets, or prefixes of names.

    Returns:
        (B, C, h, w) by target, in network order: all stages, and the neck's levels and the logits if one
        of `names` needs them.
    """
    indices, features = _stages(model.backbone, images)
    maps = {f'{STAGE}{i + 1}': x for i, x in zip(indices, features, strict=True)}
    later = [name for name in names if not name.startswith(STAGE)]
    if later and _has_neck(model):
        features = model.neck(features)
        maps |= {f'{NECK}{i}': x for i, x in enumerate(features, 1)}
    if LOGITS in later:
        maps[LOGITS] = model.decode_head(features)
    return maps


def choose_targets(
    grids: Mapping[str, Grid], wanted: Sequence[str] | None, scores: bool, backbone_alone: bool
) -> list[str]:
    """Return the names of the targets to analyze, in network order.

    Args:
        grids: map sizes of all targets except `score`.
        wanted: names of targets; None for all except `score`.
        scores: whether the model has the target `score`.
        backbone_alone: whether the checkpoint has weights for the stages only.

    Raises:
        UserError: a name is unknown, or the checkpoint has no weights for it.
    """
    known = [*grids, *([SCORE] if scores else [])]
    for name in wanted or ():
        if name not in known:
            near = did_you_mean(name, known)
            raise UserError(f'--targets: unknown target {name!r}; choose from {", ".join(known)}{near}')
    stages = [name for name in known if name.startswith(STAGE)]
    beyond = [name for name in wanted or () if name not in stages]
    if backbone_alone and beyond:
        raise UserError(
            f'--targets: the checkpoint contains only a backbone, but {beyond[0]} needs more weights; '
            'give a checkpoint of the whole model, or none'
        )
    if wanted:
        return [name for name in known if name in wanted]
    return stages if backbone_alone else list(grids)


def _stages(backbone: nn.Module, images: Tensor) -> tuple[Sequence[int], tuple[Tensor, ...]]:
    """Return indices from 0 and maps of the stages; of all stages for a classifier."""
    if isinstance(backbone, UnifiedClassifier):
        indices = range(len(backbone.stages))
        return indices, backbone.stage_maps(images, indices)
    features = backbone(images)
    return getattr(backbone, 'out_indices', range(len(features))), features


def _has_neck(model: nn.Module) -> bool:
    return getattr(model, 'with_neck', False)


def _has_logits(model: nn.Module) -> bool:
    """Return whether a model is a segmentor with a single decode head, not a cascade."""
    head = getattr(model, 'decode_head', None)
    return isinstance(head, nn.Module) and not isinstance(head, nn.ModuleList)


@dataclass(frozen=True)
class TopDetections:
    """Highest-scoring detection of each image that has one.

    Attributes:
        images: indices of the images in the batch.
        scores: (len(images),), scores of the predicted class before the softmax.
        middles: centers of the boxes, (row, column) in pixels.
    """

    images: list[int]
    scores: Tensor
    middles: list[tuple[int, int]]


def top_detections(model: nn.Module, features: Sequence[Tensor], size: int) -> TopDetections | None:
    """Find the best detection of each image, and score its box again; None if there are no detections.

    The box is fixed: the gradient of the score does not flow through the proposals. The score is taken
    before the softmax, whose gradient vanishes for confident detections.

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
    """Return boxes (N, 4) and labels (N,) for each image, highest score first."""
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
    """Return row and column of the center pixel of a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    row, column = ((first + last) / 2 for first, last in ((top, bottom), (left, right)))
    return min(int(row), size - 1), min(int(column), size - 1)


def center_value(feature_map: Tensor) -> Tensor:
    """Sum the positive channels at the center of a map, for each image.

    A plain sum would be useless after a LayerNorm: it does not depend on the image, so its gradient is
    only rounding error. RepLKNet (Ding et al., arXiv 2203.06717, table 10) also takes the positive part.

    Args:
        feature_map: (B, C, H, W).

    Returns:
        (B,).
    """
    height, width = feature_map.shape[2:]
    return feature_map[:, :, height // 2, width // 2].relu().sum(1)


def contributions(
    values: Tensor, images: Tensor, name: str, keep_graph: bool, positive_part: bool = False
) -> Tensor:
    """Return the contribution of every pixel of each image to that image's value.

    Args:
        values: (B,), one value per image, which depends only on that image.
        images: (B, C, H, W), images that the values were computed from.
        name: name of the target, for messages.
        keep_graph: whether to keep the graph for other values of the same computation.
        positive_part: whether to take the positive part of the gradient instead of its absolute value.

    Returns:
        (B, H, W), float64, on the CPU.

    Raises:
        UserError: the values are not differentiable with respect to the images, or a gradient is
            non-finite.
    """
    gradient = None
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(
            values.sum(), images, retain_graph=keep_graph, allow_unused=True
        )
    if gradient is None:
        raise UserError(
            f'target {name} has no gradient with respect to the image; choose different targets with '
            '--targets'
        )
    gradient = gradient.detach()
    found = (gradient.relu() if positive_part else gradient.abs()).sum(1).double().cpu()
    if not found.isfinite().all():
        raise UserError(
            f'target {name}: the gradient with respect to the image is non-finite; '
            'give a checkpoint whose training did not diverge'
        )
    return found


def moved(contribution: Tensor, down: int, right: int) -> Tensor:
    """Shift a map, filling with zeros, (H, W) -> (H, W)."""
    height, width = contribution.shape
    result = torch.zeros_like(contribution)
    rows, columns = _overlap(down, height), _overlap(right, width)
    result[rows[1], columns[1]] = contribution[rows[0], columns[0]]
    return result


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """Return the part of a line that a shift keeps, as source and target slices."""
    first, last = max(0, -shift), min(length, length - shift)
    last = max(first, last)
    return slice(first, last), slice(first + shift, last + shift)
