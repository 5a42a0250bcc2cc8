"""Numbers that a network computes, by name, and how much each pixel of an image contributes to them."""

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
    """Height and width of the map of every target that a model has, but `score`.

    Args:
        model: a detector, segmentor or classifier on the `meta` device, in eval mode.
        size: side of the image.

    Raises:
        UserError: the model does not take images of this size.
    """
    names = [STAGE, *([NECK] if _has_neck(model) else []), *([LOGITS] if _has_logits(model) else [])]
    try:
        with torch.no_grad():
            maps = feature_maps(model, torch.empty(1, 3, size, size, device='meta'), names)
    except (BackboneError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f'the model does not run on images of {size}x{size}: {reason}') from error
    return {name: tuple(feature_map.shape[2:]) for name, feature_map in maps.items()}


def has_scores(model: nn.Module) -> bool:
    """Whether it is a detector whose box head gives one score for each class of a box."""
    return isinstance(getattr(model, 'roi_head', None), StandardRoIHead) and model.with_rpn


def feature_maps(model: nn.Module, images: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Maps of the parts that targets are of; later parts are not run.

    Args:
        model: a detector, segmentor or classifier.
        images: (B, 3, H, W), normalized.
        names: targets, or the words that their names start with.

    Returns:
        By target, in the order of the network, (B, C, h, w): all stages, and all levels of the neck and
        the logits where one of `names` needs them.
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
    """Names of the targets to look at, in the order of the network.

    Args:
        grids: of all targets but `score`.
        wanted: names; None for all but `score`.
        scores: whether the model has `score` too.
        backbone_alone: whether the checkpoint has weights for the stages and nothing else.

    Raises:
        UserError: a name is unknown, or the checkpoint has no weights for it.
    """
    known = [*grids, *([SCORE] if scores else [])]
    for name in wanted or ():
        if name not in known:
            near = did_you_mean(name, known)
            raise UserError(f'--targets: unknown target {name!r}; known are {", ".join(known)}{near}')
    stages = [name for name in known if name.startswith(STAGE)]
    beyond = [name for name in wanted or () if name not in stages]
    if backbone_alone and beyond:
        raise UserError(
            f'--targets: the checkpoint holds a backbone alone, and {beyond[0]} needs more; '
            'give a checkpoint of the whole model, or none'
        )
    if wanted:
        return [name for name in known if name in wanted]
    return stages if backbone_alone else list(grids)


def _stages(backbone: nn.Module, images: Tensor) -> tuple[Sequence[int], tuple[Tensor, ...]]:
    """Indices from 0 and maps of the stages; all of them where the network returns logits."""
    if isinstance(backbone, UnifiedClassifier):
        indices = range(len(backbone.stages))
        return indices, backbone.stage_maps(images, indices)
    features = backbone(images)
    return getattr(backbone, 'out_indices', range(len(features))), features


def _has_neck(model: nn.Module) -> bool:
    return getattr(model, 'with_neck', False)


def _has_logits(model: nn.Module) -> bool:
    """Whether it is a segmentor with one decode head, not a cascade of them."""
    head = getattr(model, 'decode_head', None)
    return isinstance(head, nn.Module) and not isinstance(head, nn.ModuleList)


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


def centre_value(feature_map: Tensor) -> Tensor:
    """What a map says of its middle: the positive channels there, summed, as a number for each image.

    The plain sum would be no target: that of a LayerNorm's outputs is the same whatever the image, and
    its gradient nothing but rounding. RepLKNet (Ding et al., arXiv 2203.06717, table 10) takes the
    positive part as well.

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
    """Contribution of every pixel of each image to its own value.

    Args:
        values: (B,), the first of the first image and so on; no value may depend on another image.
        images: (B, C, H, W), which the values were computed from.
        name: of the target, for messages.
        keep_graph: whether other values of the same computation come later.
        positive_part: take the positive part of the gradient, and not its absolute value.

    Returns:
        (B, H, W), float64, on the CPU.

    Raises:
        UserError: the values do not depend on the images by differentiable operations alone, or a
            gradient is no finite number.
    """
    gradient = None
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(
            values.sum(), images, retain_graph=keep_graph, allow_unused=True
        )
    if gradient is None:
        raise UserError(
            f'target {name}: the model computes it without a gradient with respect to the image; '
            'choose others with --targets'
        )
    gradient = gradient.detach()
    found = (gradient.relu() if positive_part else gradient.abs()).sum(1).double().cpu()
    if not found.isfinite().all():
        raise UserError(
            f'target {name}: the gradient with respect to the image is no finite number; '
            'give a checkpoint whose training did not diverge'
        )
    return found


def moved(contribution: Tensor, down: int, right: int) -> Tensor:
    """Move a map and fill with zeros, (H, W) -> (H, W)."""
    height, width = contribution.shape
    result = torch.zeros_like(contribution)
    rows, columns = _overlap(down, height), _overlap(right, width)
    result[rows[1], columns[1]] = contribution[rows[0], columns[0]]
    return result


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """What stays of a line that is moved by `shift`: where it was and where it comes to."""
    first, last = max(0, -shift), min(length, length - shift)
    last = max(first, last)
    return slice(first, last), slice(first + shift, last + shift)
