"""Size of a batch in the training of a config, on each GPU."""

from collections.abc import Mapping, Sequence

from mmengine.config import Config

from evaluation.benchmark.passes import Size
from evaluation.utils.errors import UserError


def training_size(cfg: Config, shape: Sequence[int] | None, batch: int | None) -> Size:
    """Return the largest batch of a training.

    Args:
        cfg: config with a model and a training data set.
        shape: height and width of the images; None for those of the training pipeline, padded as the
            preprocessor does.
        batch: images on each GPU; None for the batch size of the training data loader.

    Raises:
        UserError: the config does not state what is not given.
    """
    loader = cfg.get('train_dataloader') or {}
    batch = batch or loader.get('batch_size')
    if not batch:
        raise UserError(f'config {cfg.filename} states no train_dataloader.batch_size; give --batch N')
    return Size(batch, *(shape or _shape(cfg, loader)))


def _shape(cfg: Config, loader: Mapping) -> tuple[int, int]:
    preprocessor = cfg.model.get('data_preprocessor') or {}
    pipeline = (loader.get('dataset') or {}).get('pipeline') or ()
    shapes = _shapes(pipeline, [])
    if preprocessor.get('size'):
        shapes = [preprocessor['size']]
    if not shapes:
        raise UserError(
            f'the training pipeline of config {cfg.filename} does not state the size of its images; '
            'give --shape HEIGHT WIDTH'
        )
    divisor = preprocessor.get('pad_size_divisor') or 1
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    if not (preprocessor.get('size') or _groups_by_shape(loader, pipeline)):
        # An upright image and a wide one are padded to a square that holds both.
        height = width = max(height, width)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _groups_by_shape(loader: Mapping, pipeline: Sequence[Mapping]) -> bool:
    """Return whether the images of a batch are all upright or all wide."""
    sampler = (loader.get('batch_sampler') or {}).get('type')
    return 'AspectRatio' in str(sampler) and 'crop_size' not in str(pipeline)


def _shapes(steps: Sequence[Mapping], before: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the possible heights and widths of images after the steps of a pipeline.

    Args:
        steps: configs of the steps.
        before: possible sizes before them.
    """
    shapes = before
    for step in steps:
        if step['type'] == 'RandomChoice':
            shapes = [shape for branch in step['transforms'] for shape in _shapes(branch, shapes)]
        elif step.get('crop_size'):
            shapes = [_pair(step['crop_size'])]
        elif step.get('input_size'):
            shapes = [_pair(step['input_size'])]
        elif 'Resize' in str(step['type']):
            scales = step.get('scales') or [step.get('scale')]
            # Of a scale with the ratio kept, the larger number bounds the longer side, mostly the width.
            shapes = [tuple(sorted(_pair(scale))) for scale in scales if scale]
    return shapes


def _pair(side: int | Sequence[int]) -> tuple[int, int]:
    return (side, side) if isinstance(side, int) else tuple(side)
