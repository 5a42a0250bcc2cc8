"""Measure the contributions of pixels to a model's targets, averaged over many images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from evaluation.analysis.parts import complete_parts, is_main
from evaluation.analysis.receptive_field.image_folder import (
    STRIDE,
    ImageFile,
    digest_of_images,
    find_images,
    load_image,
    load_squashed_image,
    model_input,
)
from evaluation.analysis.receptive_field.result import ANALYSIS, ReceptiveFieldResult, TargetResult
from evaluation.analysis.receptive_field.targets import (
    NECK,
    SCORE,
    Grid,
    center_value,
    choose_targets,
    contributions,
    feature_maps,
    grids_of_targets,
    has_scores,
    moved,
    top_detections,
)
from evaluation.analysis.results import REPLKNET, SUITE
from evaluation.engine.trained_model import (
    Checkpoint,
    build_model,
    describe_weights,
    model_without_values,
    read_weights,
)
from evaluation.results.description import config_name, versions
from evaluation.utils.errors import UserError, warn

IMAGES = '.images'


@dataclass(frozen=True)
class Plan:
    """Settings of an analysis.

    Attributes:
        cfg: config of the model.
        checkpoint: path or URL of its weights; None for an untrained model.
        folder: folder of the images.
        limit: number of images to take; None for all.
        size: side of the images after resizing, in pixels.
        batch: images per forward pass.
        targets: names of targets; None for all except `score`.
        seed: seed of an untrained model.
        device: device that the model runs on.
        protocol: `suite`, or `replknet` for images, gradients and areas as in RepLKNet's code.
    """

    cfg: Config
    checkpoint: str | None
    folder: Path
    limit: int | None
    size: int
    batch: int
    targets: Sequence[str] | None
    seed: int
    device: torch.device
    protocol: str = SUITE


def analyze(plan: Plan, output: Path) -> ReceptiveFieldResult | None:
    """Analyze all images; each process analyzes its share.

    Args:
        plan: settings of the analysis.
        output: file of the result; unfinished work is kept next to it, and removed at the end.

    Returns:
        The result on the main process, None on others.

    Raises:
        UserError: the plan is invalid, or there is not enough memory.
        Interrupted: the user interrupted the work; running the same command again resumes it.
    """
    if plan.size % STRIDE:
        raise UserError(f'--size {plan.size}: give a multiple of {STRIDE}')
    files = find_images(plan.folder, plan.limit)
    checkpoint = (
        read_weights(plan.checkpoint, plan.cfg.get('checkpoint_key')) if plan.checkpoint else None
    )
    grids, targets = find_targets(plan, checkpoint)
    warn_of_middles(plan.size, {name: grids[name] for name in targets if name in grids})
    model = build_model(plan.cfg, checkpoint, plan.seed, plan.device)
    described = describe_weights(model, checkpoint)
    parts = complete_parts(
        output,
        facts_of(plan, files, targets, described),
        files,
        lambda share: part_of_images(model, share, plan, targets),
        plan.device,
        f'a batch of {plan.batch} images of {plan.size}x{plan.size}; give a smaller --batch or --size',
    )
    if not is_main():
        return None
    sums = parts.sum()
    result = ReceptiveFieldResult(
        config=config_name(plan.cfg.filename),
        model_config=plan.cfg.model.to_dict(),
        checkpoint=described,
        images={'folder': str(plan.folder), 'count': len(files), 'sha256': digest_of_images(files)},
        size=plan.size,
        batch=plan.batch,
        seed=None if checkpoint and not checkpoint.is_backbone_alone else plan.seed,
        device=plan.device.type,
        targets=[target_result(name, grids.get(name), sums, plan.protocol) for name in targets],
        protocol=plan.protocol,
    )
    parts.remove()
    return result


def find_targets(plan: Plan, checkpoint: Checkpoint | None) -> tuple[dict[str, Grid], list[str]]:
    """Return the sizes of all maps, and the targets to analyze.

    Raises:
        UserError: the model or its weights do not support the size or a target.
    """
    model = model_without_values(plan.cfg, checkpoint)
    grids = grids_of_targets(model, plan.size)
    alone = checkpoint is not None and checkpoint.is_backbone_alone
    return grids, choose_targets(grids, plan.targets, has_scores(model), alone)


def warn_of_middles(size: int, grids: dict[str, Grid]) -> None:
    """Warn if the center of a map is not at the center of the image, where the squares are centered."""
    for name, (rows, _) in grids.items():
        stride = round(size / rows)
        off = size // 2 - rows // 2 * stride
        if off:
            warn(
                f'the center of the map of {name} ({rows}x{rows}) is {off} pixels away from the center '
                f'of the image; give a --size that is a multiple of {2 * stride}'
            )


def facts_of(plan: Plan, files: Sequence[ImageFile], targets: Sequence[str], weights: dict) -> dict:
    """Return everything that contributions depend on, so that only matching parts are reused."""
    return {
        'analysis': ANALYSIS,
        'model': repr(plan.cfg.model.to_dict()),
        'weights': weights['weights_sha256'],
        'images': digest_of_images(files),
        'size': plan.size,
        'batch': plan.batch,
        'targets': list(targets),
        'protocol': plan.protocol,
        'device': plan.device.type,
        'versions': versions(),
    }


def part_of_images(
    model: nn.Module, files: Sequence[ImageFile], plan: Plan, targets: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return contributions to each target, (H, W), summed over some images, and the image counts."""
    sums: dict[str, np.ndarray] = {}
    is_replknet = plan.protocol == REPLKNET
    load = load_squashed_image if is_replknet else load_image
    for begin in range(0, len(files), plan.batch):
        batch = files[begin : begin + plan.batch]
        images = model_input(model, [load(file.path, plan.size) for file in batch])
        for name, maps in batch_contributions(model, images, targets, is_replknet).items():
            for contribution in maps:
                sums[name] = sums.get(name, 0.0) + contribution.numpy()
            sums[name + IMAGES] = sums.get(name + IMAGES, 0) + np.asarray(len(maps))
    # float32 halves the size of the file; sums in float64 are rounded only once.
    return {name: x if name.endswith(IMAGES) else x.astype(np.float32) for name, x in sums.items()}


def batch_contributions(
    model: nn.Module, images: Tensor, targets: Sequence[str], positive_part: bool = False
) -> dict[str, Tensor]:
    """Return contributions to each target, for every image that has it.

    Args:
        model: model in eval mode.
        images: (B, 3, H, W), normalized.
        targets: names of targets.
        positive_part: whether to take the positive part of the gradient instead of its absolute value.

    Returns:
        (B or fewer, H, W) by target, float64, on the CPU.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        maps = feature_maps(model, images, targets)
        features = [x for name, x in maps.items() if name.startswith(NECK)]
        top = top_detections(model, features, images.shape[-1]) if SCORE in targets else None
        values = {name: center_value(maps[name]) for name in targets if name != SCORE}
        if top:
            values[SCORE] = top.scores
    found = {}
    for name, value in values.items():
        is_last = name == [*values][-1]
        found[name] = contributions(value, images, name, not is_last, positive_part)
    if top:
        middle = images.shape[-1] // 2
        found[SCORE] = torch.stack(
            [
                moved(found[SCORE][index], middle - row, middle - column)
                for index, (row, column) in zip(top.images, top.middles, strict=True)
            ]
        )
    return found


def target_result(
    name: str, grid: Grid | None, sums: dict[str, np.ndarray], protocol: str = SUITE
) -> TargetResult:
    """Return the result of a target: its mean contribution over images.

    Raises:
        UserError: no image has the target, or no pixel contributes to it.
    """
    if name not in sums:
        raise UserError(
            f'target {name}: no image has a detection; give a trained checkpoint or different --targets'
        )
    images = int(sums[name + IMAGES])
    mean = sums[name] / images
    if not mean.any():
        raise UserError(
            f'target {name}: no pixel contributes, since no channel is positive at the center of its '
            'map; give more images or different --targets'
        )
    return TargetResult(name, grid, images, mean, protocol)
