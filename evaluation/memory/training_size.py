"""Size of a batch in the training of a config, on each GPU."""

from collections.abc import Iterator, Mapping, Sequence

from mmengine.config import Config

from evaluation.benchmark.passes import Size
from evaluation.utils.errors import UserError

Shape = tuple[int, int]
# Words in the names of transforms that change the size of images. Those that are not known are refused.
GEOMETRIC = (
    'Affine',
    'Crop',
    'CutMix',
    'Expand',
    'Mixup',
    'MixUp',
    'Mosaic',
    'Pad',
    'Resiz',
    'Rotat',
    'Scale',
)
# Types of crops in mmdet that may keep the whole image.
RELATIVE_CROPS = ('relative', 'relative_range')


class UnknownSizeError(Exception):
    """A transform whose effect on the size is not known; the message is its name."""


def training_size(cfg: Config, shape: Sequence[int] | None, batch: int | None) -> Size:
    """Return the largest batch of a training.

    Args:
        cfg: config with a model and a training data set.
        shape: height and width of the images; None for those of the training pipeline, padded as the
            preprocessor does.
        batch: images on each GPU; None for the batch size of the training data loader.

    Raises:
        UserError: the config does not state what is not given, or not in a way that is understood.
    """
    loader = cfg.get('train_dataloader') or {}
    batch = batch or loader.get('batch_size')
    if not isinstance(batch, int):
        raise UserError(f'config {cfg.filename} states no train_dataloader.batch_size; give --batch N')
    if shape:
        return Size(batch, *shape)
    try:
        return Size(batch, *_shape(cfg.model.get('data_preprocessor') or {}, loader))
    except UnknownSizeError as error:
        raise UserError(
            f'the training pipeline of config {cfg.filename} does not state the size of its images'
            f'{error}; give --shape HEIGHT WIDTH'
        ) from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'the size of images in the training pipeline of config {cfg.filename} cannot be read '
            f'({type(error).__name__}: {error}); give --shape HEIGHT WIDTH'
        ) from error


def _shape(preprocessor: Mapping, loader: Mapping) -> Shape:
    """Return height and width of the largest images of a loader, as a preprocessor pads them."""
    pipelines = [*_pipelines(loader.get('dataset') or {})]
    shapes = [shape for pipeline in pipelines for shape in _shapes(pipeline, [])]
    if fixed := _fixed_size(preprocessor):
        return fixed
    if not shapes:
        raise UnknownSizeError
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    if not _groups_by_shape(loader, pipelines):
        # An upright image and a wide one are padded to a square that holds both.
        height = width = max(height, width)
    divisor = preprocessor.get('pad_size_divisor') or preprocessor.get('size_divisor') or 1
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def _fixed_size(preprocessor: Mapping) -> Shape | None:
    """Return the size to which a preprocessor brings all images, if it does."""
    size = preprocessor.get('size')
    for augment in preprocessor.get('batch_augments') or ():
        if _name(augment) != 'BatchFixedSizePad':
            raise UnknownSizeError(f' after {_name(augment)}')
        size = augment['size']
    return _pair(size) if size else None


def _pipelines(dataset: Mapping) -> Iterator[Sequence[Mapping]]:
    """Yield the pipelines of a data set and of those that it wraps."""
    if dataset.get('pipeline'):
        yield dataset['pipeline']
    for inner in (dataset.get('dataset'), *(dataset.get('datasets') or ())):
        if inner:
            yield from _pipelines(inner)


def _groups_by_shape(loader: Mapping, pipelines: Sequence[Sequence[Mapping]]) -> bool:
    """Return whether the images of a batch are all upright or all wide.

    The sampler knows only the shapes of whole images.
    """
    sampler = (loader.get('batch_sampler') or {}).get('type')
    return 'AspectRatio' in str(sampler) and 'Crop' not in str(pipelines)


def _shapes(steps: Sequence[Mapping], before: list[Shape]) -> list[Shape]:
    """Return the possible heights and widths of images after the steps of a pipeline.

    Args:
        steps: configs of the steps.
        before: possible sizes before them; empty if these are not known.

    Raises:
        UnknownSizeError: the effect of a step is not known.
    """
    shapes = before
    for step in steps:
        name = _name(step)
        if name == 'RandomChoice':
            shapes = [shape for branch in step['transforms'] for shape in _shapes(branch, shapes)]
        elif step.get('input_size'):
            shapes = [_pair(step['input_size'])]
        elif name in ('Resize', 'RandomChoiceResize', 'RandomResize'):
            shapes = _resized(step)
        elif name == 'RandomCrop':
            shapes = _cropped(step, shapes)
        elif name == 'Pad' and step.get('size'):
            shapes = [_pair(step['size'])[::-1]]
        elif any(word in name for word in GEOMETRIC):
            raise UnknownSizeError(f' after {name}')
    return shapes


def _name(step: Mapping) -> str:
    kind = step['type']
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__


def _resized(step: Mapping) -> list[Shape]:
    """Return the sizes of images after a step that resizes them."""
    scales = step.get('scales') or step['scale']
    scales = [_pair(each) for each in scales] if _is_list_of_scales(scales) else [_pair(scales)]
    largest = max(step.get('ratio_range') or (1,)) if len(scales) == 1 else 1
    # mmcv states width and height. If the ratio is kept, the larger number bounds the longer side, which
    # is mostly the width.
    keeps_ratio = step.get('keep_ratio') or (step.get('resize_cfg') or {}).get('keep_ratio')
    orders = sorted if keeps_ratio else reversed
    return [tuple(round(largest * side) for side in orders(scale)) for scale in scales]


def _is_list_of_scales(scales: object) -> bool:
    return isinstance(scales, Sequence) and not isinstance(scales[0], (int, float))


def _cropped(step: Mapping, before: list[Shape]) -> list[Shape]:
    """Return the largest sizes of images after a crop."""
    kind = step.get('crop_type', 'absolute')
    if kind in RELATIVE_CROPS:
        return before
    height, width = _pair(step['crop_size'])
    return [(width, width)] if kind == 'absolute_range' else [(height, width)]


def _pair(side: int | Sequence[int]) -> Shape:
    one, other = (side, side) if isinstance(side, int) else side
    return one, other
