"""Operators of mmcv without a compiler: a stand-in for the extension module `mmcv._ext`.

A pip-installed mmcv has no compiled `mmcv._ext`, so `mmcv.ops`, and most of mmdet with it, cannot be
imported. mmcv only looks up functions in that module by name, and torchvision ships prebuilt CPU and
CUDA kernels for those that Mask R-CNN and similar models use. `install` replaces the missing module by
one made of these kernels; a compiled extension is kept if there is one.

The operators follow the calling convention of the extension: they write results into output tensors
that are passed in, and add gradients to those. float64 is computed in float64, every other dtype in
float32: half precision and mixed dtypes cost a copy of the inputs, but sums lose no precision.
"""

import importlib.util
import sys
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

_NAME = 'mmcv._ext'
# If mmcv.ops is missing on import, these modules define functions that raise, and keep them. All other
# modules of mmdet and mmseg that do this import one of these.
_IMPORTERS = ('mmdet.structures.mask', 'mmseg.utils')
# Isolated builds do not see torch and omit the operators, and pip caches such a wheel.
_BUILD = (
    "pip install 'setuptools>=80' wheel ninja && pip install --force-reinstall --no-deps "
    '--no-build-isolation --no-cache-dir --no-binary onedl-mmcv onedl-mmcv'
)


def install() -> bool:
    """Make `mmcv.ops` importable; call this before importing mmdet or mmseg.

    Returns:
        Whether the stand-in is in use; False if mmcv is compiled or not installed.
    """
    if _NAME not in sys.modules and _needs_stand_in():
        _warn_if_late()
        sys.modules[_NAME] = _stand_in()
    return using_stand_in()


def using_stand_in() -> bool:
    """Return whether `mmcv._ext` is the stand-in, not a compiled extension."""
    spec = getattr(sys.modules.get(_NAME), '__spec__', None)
    return spec is not None and spec.origin == __name__


def _needs_stand_in() -> bool:
    """Return whether mmcv is installed without its extension, without importing it."""
    mmcv = importlib.util.find_spec('mmcv')
    if mmcv is None:
        return False
    places = mmcv.submodule_search_locations
    return not any(finder.find_spec(_NAME, places) for finder in sys.meta_path)


def _warn_if_late() -> None:
    late = [name for name in _IMPORTERS if name in sys.modules]
    if late and 'mmcv.ops' not in sys.modules:
        warnings.warn(
            'modules were imported too early and cannot use the operators of mmcv: '
            f'{", ".join(late)}; import backbones before mmdet and mmseg',
            RuntimeWarning,
            stacklevel=3,
        )


def _stand_in() -> ModuleType:
    module = importlib.util.module_from_spec(ModuleSpec(_NAME, loader=None, origin=__name__))
    module.__doc__ = __doc__
    module.__getattr__ = _absent
    for operator in _OPERATORS:
        setattr(module, operator.__name__, operator)
    return module


def _absent(name: str) -> Callable:
    # mmcv imports all its operators at once, so absent ones must not fail until they are called.
    if name.startswith('_'):
        raise AttributeError(f'module {_NAME!r} has no attribute {name!r}')

    def operator(*_args: object, **_kwargs: object) -> None:
        raise _not_provided(name)

    operator.__name__ = operator.__qualname__ = name
    return operator


def _not_provided(what: str) -> RuntimeError:
    return RuntimeError(
        f'mmcv is not compiled, and the torchvision stand-in has no {what}; compile mmcv with a C++ '
        'compiler and, for GPUs, the CUDA toolkit of the installed torch: ' + _BUILD
    )


def _promote(*tensors: Tensor) -> list[Tensor]:
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return [tensor.to(torch.float64 if double else torch.float32) for tensor in tensors]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: boxes whose overlap with a kept box is above this are dropped.
        offset: 1 if x2 and y2 are the last pixels inside the box, 0 if they are its edges.

    Returns:
        (K,) int64, indices of the kept boxes by descending score.
    """
    boxes, scores = _promote(boxes, scores)
    # Round to the precision of the overlaps, so that an overlap of 0.6 stays within a threshold of 0.6.
    threshold = torch.tensor(iou_threshold, dtype=boxes.dtype).item()
    return torch.ops.torchvision.nms(_to_edges(boxes, offset), scores, threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft non-maximum suppression (Soft-NMS, arXiv 1704.04503, section 3).

    Takes N steps of O(N) vectorized work, or fewer if `min_score` ends the search earlier.

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2.
        scores: (N,).
        dets: (N, 5), output; the first K rows receive the corners and decayed scores of the kept boxes.
        iou_threshold: minimum overlap at which methods 0 and 1 decay a score.
        sigma: width of method 2.
        min_score: boxes whose score falls below this are dropped, except the first box chosen.
        method: decay factor at overlap o. 0: zero; 1: 1 - o; 2: exp(-o² / sigma), at any overlap.
        offset: as in `nms`.

    Returns:
        (K,) int64, indices of the kept boxes in the order they were chosen.
    """
    corners = boxes
    boxes, scores = _promote(boxes, scores)
    boxes = _to_edges(boxes, offset)
    candidates = torch.arange(len(boxes), device=boxes.device)
    chosen, chosen_scores = [candidates[:0]], [scores[:0]]
    while len(candidates):
        best = int(scores.argmax())
        chosen.append(candidates[best : best + 1])
        chosen_scores.append(scores[best : best + 1])
        overlap = _overlap(boxes[best], boxes)
        if method == 2:
            scores = scores * torch.exp(-overlap.square() / sigma)
        else:
            decayed = scores * (1 - overlap) if method == 1 else torch.zeros_like(scores)
            scores = torch.where(overlap >= iou_threshold, decayed, scores)
        remains = scores >= min_score
        remains[best] = False
        boxes, scores, candidates = boxes[remains], scores[remains], candidates[remains]
    kept = torch.cat(chosen)
    dets[: len(kept), :4] = corners[kept]
    dets[: len(kept), 4] = torch.cat(chosen_scores)
    return kept


def _to_edges(boxes: Tensor, offset: int) -> Tensor:
    return torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Return the IoU of one box (4,) with each of (N, 4); 0 for empty boxes."""
    lower, upper = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    intersection = (upper - lower).clamp(min=0).prod(1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - intersection
    return torch.where(intersection > 0, intersection / union, torch.zeros_like(union))


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """RoIAlign with average pooling (Mask R-CNN, arXiv 1703.06870, section 3).

    `input` is (B, C, H, W), `rois` is (K, 5) with image index, x1, y1, x2, y2, and `output`, which
    receives the result, is (K, C, aligned_height, aligned_width). `spatial_scale` is in pixels of
    `input` per unit of `rois`. A bin takes `sampling_ratio` samples per side, or one per pixel,
    rounded up, if that is 0. If `aligned`, coordinates start at the corner of the first pixel; else
    they start at its center, and regions are widened to at least one pixel. `argmax_y` and `argmax_x`
    are for max pooling and are not used.

    Raises:
        RuntimeError: `pool_mode` is 0 (max pooling).
    """
    if pool_mode != 1:
        raise _not_provided("roi_align with pool_mode='max'")
    bins = (spatial_scale, aligned_height, aligned_width)
    features, rois = _promote(input, rois)
    output.copy_(torch.ops.torchvision.roi_align(features, rois, *bins, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of `roi_align_forward` to `grad_input` (B, C, H, W)."""
    if pool_mode != 1:
        raise _not_provided("roi_align with pool_mode='max'")
    bins = (spatial_scale, aligned_height, aligned_width)
    grad, rois = _promote(grad_output, rois)
    shape = grad_input.shape
    grad_input.add_(
        torch.ops.torchvision._roi_align_backward(grad, rois, *bins, *shape, sampling_ratio, aligned)
    )


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of independent classes (RetinaNet, arXiv 1708.02002, equation 5).

    Args:
        input: (N, C) logits.
        target: (N,) class of each row; values outside [0, C) mean background.
        weight: (C,) factor for rows of each class, or empty; background rows have factor 1.
        output: (N, C), receives the loss.
        gamma: focusing exponent.
        alpha: weight of the target class; other classes have 1 - alpha.
    """
    logits, weight = _promote(input, weight)
    p = logits.sigmoid()
    positive = -alpha * (1 - p) ** gamma * F.logsigmoid(logits)
    negative = -(1 - alpha) * p**gamma * F.logsigmoid(-logits)
    is_target = _one_hot(target, logits)
    output.copy_(torch.where(is_target, positive, negative) * _row_weight(is_target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write the gradient of `sigmoid_focal_loss_forward` for `input` to `grad_input` (N, C)."""
    logits, weight = _promote(input, weight)
    p = logits.sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * F.logsigmoid(logits))
    negative = (1 - alpha) * p**gamma * (p - gamma * (1 - p) * F.logsigmoid(-logits))
    is_target = _one_hot(target, logits)
    grad_input.copy_(torch.where(is_target, positive, negative) * _row_weight(is_target, weight))


def _one_hot(target: Tensor, logits: Tensor) -> Tensor:
    return target[:, None] == torch.arange(logits.shape[1], device=logits.device)


def _row_weight(is_target: Tensor, weight: Tensor) -> Tensor:
    if not weight.numel():
        return weight.new_ones(())
    background = ~is_target.any(1, keepdim=True)
    return (is_target * weight).sum(1, keepdim=True) + background


def get_compiler_version() -> str:
    """Return the `MMCV Compiler` line of mmcv's environment report."""
    return f'none, torchvision {torchvision.__version__} stands in'


def get_compiling_cuda_version() -> str:
    """Return the `MMCV CUDA Compiler` line of mmcv's environment report."""
    return get_compiler_version()


_OPERATORS = (
    nms,
    softnms,
    roi_align_forward,
    roi_align_backward,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    get_compiler_version,
    get_compiling_cuda_version,
)
