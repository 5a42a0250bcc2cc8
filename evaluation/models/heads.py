"""Run a detector, segmentor or classifier on tensors alone, its regions fixed in number."""

from collections.abc import Iterator, Sequence

from mmdet.models import DetectionTransformer
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.structures import DetDataSample
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError

BOX_REGIONS = 1000
MASK_REGIONS = 100

# What of a RoI head is run; what else has parameters would go uncounted.
_ROI_PARTS = ('bbox_head', 'mask_head', 'shared_head')
# Forward passes of RoI heads that give each head the features of its regions, and nothing else.
_PLAIN_FORWARDS = tuple(
    getattr(kind, name)
    for kind in (StandardRoIHead, CascadeRoIHead)
    for name in ('_bbox_forward', '_mask_forward')
)
# Heads of single-stage detectors that run on what the box head selects.
_DYNAMIC_HEADS = ('mask_head', 'segm_head')


def standard_size(model: nn.Module) -> tuple[int, int]:
    """Height and width of the input that publications state FLOPs for.

    Raises:
        UserError: the model is of a kind whose parts cannot be run by themselves.
    """
    name = head_name(model)
    return next(task.flops_size for task in TASKS.values() if name in task.heads)


def head_name(model: nn.Module) -> str:
    """The head by which the kind of a model is known, one of a task's `heads`.

    Raises:
        UserError: the model is of another kind, or has a part that is not run.
    """
    modules = dict(model.named_modules())
    known = (name for task in TASKS.values() for name in task.heads)
    name = next((name for name in known if name in modules), None)
    if name is None:
        raise _not_counted(
            model,
            'only of two-stage detectors, such as MaskRCNN, of detectors with a bbox_head, such as '
            'RetinaNet, of EncoderDecoder and of ImageClassifier',
        )
    if name == 'roi_head':
        _check_roi_head(model)
    if name == 'bbox_head':
        for other in _DYNAMIC_HEADS:
            if getattr(model, other, None) is not None:
                raise _not_counted(model, f'its {other} runs on what its bbox_head selects')
    return name


def run_parts(model: nn.Module, images: Tensor) -> list:
    """Run all that a test of images runs, with a fixed number of regions an image in a detector.

    Args:
        model: a detector, an encoder-decoder or a classifier.
        images: (B, 3, H, W).

    Returns:
        What each head returns, in the order of the network.

    Raises:
        UserError: the model is of another kind, or a head needs more than features.
    """
    name = head_name(model)
    if isinstance(model, DetectionTransformer):
        return [_call(model, 'transformer', model, images, _samples(images), 'tensor')]
    features = model.backbone(images)
    if name == 'backbone.head':
        return [features]
    if model.with_neck:
        features = model.neck(features)
    if name == 'decode_head':
        return _decoded(model, features)
    outputs = []
    if getattr(model, 'rpn_head', None) is not None:
        outputs.append(_call(model, 'rpn_head', model.rpn_head, features))
    if name == 'bbox_head':
        outputs.append(_call(model, name, model.bbox_head, features))
    else:
        outputs += _run_regions(model, features)
    return outputs


def _decoded(model: nn.Module, features: Sequence[Tensor]) -> list:
    """Logits of a decode head, or of a cascade of them, each of which refines those before."""
    heads = model.decode_head
    first, *others = heads if isinstance(heads, nn.ModuleList) else [heads]
    outputs = [_call(model, 'decode_head', first, features)]
    for head in others:
        outputs.append(_call(model, 'decode_head', head, features, outputs[-1]))
    return outputs


def _run_regions(model: nn.Module, features: Sequence[Tensor]) -> Iterator:
    """Run the box head and the mask head of every stage on regions of a whole image."""
    heads = model.roi_head
    wanted = [('bbox', BOX_REGIONS), *([('mask', MASK_REGIONS)] if heads.with_mask else [])]
    for kind, count in wanted:
        extractors = _stages(getattr(heads, f'{kind}_roi_extractor'))
        for extractor, head in zip(extractors, _stages(getattr(heads, f'{kind}_head')), strict=True):
            regions = _regions(extractor, count, features)
            if heads.with_shared_head:
                regions = heads.shared_head(regions)
            yield _call(model, f'roi_head.{kind}_head', head, regions)


def _stages(module: nn.Module) -> Sequence[nn.Module]:
    return module if isinstance(module, nn.ModuleList) else [module]


def _regions(extractor: nn.Module, count: int, features: Sequence[Tensor]) -> Tensor:
    """What RoIAlign would give the head, (count * B, C, height, width), for regions of a whole image."""
    size = extractor.roi_layers[0].output_size
    return adaptive_avg_pool2d(features[0], size).repeat(count, 1, 1, 1)


def _check_roi_head(model: nn.Module) -> None:
    """See that a RoI head has no part, and no way of calling its parts, that is not known.

    Raises:
        UserError: it has.
    """
    heads = model.roi_head
    for name, child in heads.named_children():
        if name not in _ROI_PARTS and next(child.parameters(), None) is not None:
            raise _not_counted(model, f'its roi_head.{name} is not of a plain cascade of heads')
    for name in ('_bbox_forward', '_mask_forward'):
        if getattr(type(heads), name, None) not in _PLAIN_FORWARDS:
            raise _not_counted(model, f'{type(heads).__name__} gives its heads more than their regions')


def _samples(images: Tensor) -> list[DetDataSample]:
    """What a transformer must know of images without padding."""
    size = tuple(images.shape[2:])
    facts = {'img_shape': size, 'batch_input_shape': size, 'scale_factor': (1.0, 1.0)}
    return [DetDataSample(metainfo=facts) for _ in images]


def _call(model: nn.Module, name: str, head: nn.Module, *inputs: object) -> object:
    """Run a head.

    Raises:
        UserError: it takes something else, or needs values where shapes are all there is.
    """
    try:
        return head(*inputs)
    except (NotImplementedError, TypeError) as error:
        raise _not_counted(model, f'its {name} cannot be run on features alone') from error
    except RuntimeError as error:
        # Without values no tensor can become a number, which decides how some transformers go on.
        if 'meta tensors' not in str(error):
            raise
        raise _not_counted(model, f'its {name} computes with values that it reads back') from error


def _not_counted(model: nn.Module, reason: str) -> UserError:
    return UserError(f'FLOPs of {type(model).__name__} cannot be counted: {reason}')
