"""Run a detector, segmentor or classifier on tensors, with a fixed number of regions."""

from collections.abc import Iterator, Sequence

from mmdet.models import DetectionTransformer
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.structures import DetDataSample
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from evaluation.models.classifier import ImageClassifier
from evaluation.tasks import TASKS
from evaluation.tasks.classification import CLASSIFICATION
from evaluation.utils.errors import UserError

(CLASSIFIER,) = CLASSIFICATION.heads
BOX_REGIONS = 1000
MASK_REGIONS = 100

# Parts of a RoI head that are run; others with parameters would not be counted, so they are refused.
_ROI_PARTS = ('bbox_head', 'mask_head', 'shared_head')
# Forward methods of RoI heads that pass each head only the features of its regions.
_PLAIN_FORWARDS = tuple(
    getattr(kind, name)
    for kind in (StandardRoIHead, CascadeRoIHead)
    for name in ('_bbox_forward', '_mask_forward')
)
# Heads of single-stage detectors whose input depends on the output of the box head.
_DYNAMIC_HEADS = ('mask_head', 'segm_head')


def standard_size(model: nn.Module) -> tuple[int, int]:
    """Return height and width of the input for which publications usually state FLOPs.

    Raises:
        UserError: the model is unsupported; its parts cannot be run separately.
    """
    name = head_name(model)
    return next(task.flops_size for task in TASKS.values() if name in task.heads)


def head_name(model: nn.Module) -> str:
    """Return the head that identifies the type of a model, one of a task's `heads`.

    Raises:
        UserError: the model is unsupported, or has a part that is not run.
    """
    if isinstance(model, ImageClassifier):
        # Networks other than the suite's name their heads differently.
        return CLASSIFIER
    modules = dict(model.named_modules())
    known = (name for task in TASKS.values() for name in task.heads)
    name = next((name for name in known if name in modules), None)
    if name is None:
        raise _not_counted(
            model,
            'supported are two-stage detectors, such as MaskRCNN, detectors with a bbox_head, such as '
            'RetinaNet, EncoderDecoder and ImageClassifier',
        )
    if name == 'roi_head':
        _check_roi_head(model)
    if name == 'bbox_head':
        for other in _DYNAMIC_HEADS:
            if getattr(model, other, None) is not None:
                raise _not_counted(model, f'its {other} depends on the predictions of its bbox_head')
    return name


def run_parts(model: nn.Module, images: Tensor) -> list:
    """Run all parts that inference runs, with a fixed number of regions per image in a detector.

    Args:
        model: detector, encoder-decoder or classifier.
        images: (B, 3, H, W).

    Returns:
        The output of each head, in the order of the network.

    Raises:
        UserError: the model is unsupported, or a head needs more than features.
    """
    name = head_name(model)
    if isinstance(model, DetectionTransformer):
        return [_call(model, 'transformer', model, images, _samples(images), 'tensor')]
    features = model.backbone(images)
    if name == CLASSIFIER:
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
    """Return the logits of a decode head, or of each head in a cascade of refining heads."""
    heads = model.decode_head
    first, *others = heads if isinstance(heads, nn.ModuleList) else [heads]
    outputs = [_call(model, 'decode_head', first, features)]
    for head in others:
        outputs.append(_call(model, 'decode_head', head, features, outputs[-1]))
    return outputs


def _run_regions(model: nn.Module, features: Sequence[Tensor]) -> Iterator:
    """Run the box head and the mask head of every stage on regions that cover the whole image."""
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
    """Return a stand-in for RoIAlign's output, (count * B, C, height, width), without running it."""
    size = extractor.roi_layers[0].output_size
    return adaptive_avg_pool2d(features[0], size).repeat(count, 1, 1, 1)


def _check_roi_head(model: nn.Module) -> None:
    """Check that a RoI head has only known parts and calls them in a known way.

    Raises:
        UserError: the RoI head has an unknown part or forward method.
    """
    heads = model.roi_head
    for name, child in heads.named_children():
        if name not in _ROI_PARTS and next(child.parameters(), None) is not None:
            raise _not_counted(model, f'its roi_head.{name} is not part of a plain cascade of heads')
    for name in ('_bbox_forward', '_mask_forward'):
        if getattr(type(heads), name, None) not in _PLAIN_FORWARDS:
            raise _not_counted(
                model, f'{type(heads).__name__} passes its heads more than the features of their regions'
            )


def _samples(images: Tensor) -> list[DetDataSample]:
    """Return the metadata that a transformer needs, for images without padding."""
    size = tuple(images.shape[2:])
    facts = {'img_shape': size, 'batch_input_shape': size, 'scale_factor': (1.0, 1.0)}
    return [DetDataSample(metainfo=facts) for _ in images]


def _call(model: nn.Module, name: str, head: nn.Module, *inputs: object) -> object:
    """Run a head.

    Raises:
        UserError: the head needs different inputs, or needs values on the meta device.
    """
    try:
        return head(*inputs)
    except (NotImplementedError, TypeError) as error:
        raise _not_counted(model, f'its {name} cannot be run on features alone') from error
    except RuntimeError as error:
        # Some transformers branch on the value of a tensor, which a meta tensor does not have.
        if 'meta tensors' not in str(error):
            raise
        raise _not_counted(model, f'its {name} depends on values of tensors, not only shapes') from error


def _not_counted(model: nn.Module, reason: str) -> UserError:
    return UserError(f'FLOPs of {type(model).__name__} cannot be counted: {reason}')
