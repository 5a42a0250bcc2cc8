"""What of a model a receptive field can be asked of, by name."""

from collections.abc import Mapping, Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
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
        images: (B, 3, H, W), normalised.
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
