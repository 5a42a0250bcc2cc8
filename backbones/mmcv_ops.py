"""Operators of mmcv without a compiler: a stand-in for the extension module `mmcv._ext`.

A pip-installed mmcv holds no compiled `mmcv._ext`, so `mmcv.ops`, and with it most of mmdet, cannot
be imported. mmcv asks that module only for functions by name, and torchvision ships kernels for
those that Mask R-CNN and its relatives use, ready-built for CPU and CUDA. `install` puts a module
made of them in the place of the missing one; a compiled extension, where there is one, stays.

The operators keep the calling convention of the extension: results are written into the tensors
passed for them, gradients are added to theirs. float64 is computed in float64, every other type in
float32: half precision, and mixtures of types, cost a copy of the inputs and lose nothing in sums.
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
# Where mmcv.ops is missing they define functions that raise in its stead, and keep them. The other
# parts of mmdet and mmseg that do so import one of these.
_IMPORTERS = ('mmdet.structures.mask', 'mmseg.utils')
# Isolated builds do not see torch and leave the operators out; pip caches such a wheel.
_BUILD = (
    "pip install 'setuptools>=80' wheel ninja && pip install --force-reinstall --no-deps "
    '--no-build-isolation --no-cache-dir --no-binary onedl-mmcv onedl-mmcv'
)


def install() -> bool:
    """Make `mmcv.ops` importable; to be called before mmdet or mmseg is imported.

    Returns:
        Whether the stand-in is in use: not where mmcv is compiled, nor where there is no mmcv.
    """
    if _NAME not in sys.modules and _needs_stand_in():
        _warn_if_late()
        sys.modules[_NAME] = _stand_in()
    return using_stand_in()


def using_stand_in() -> bool:
    """Whether `mmcv._ext` is the stand-in, not a compiled extension."""
    spec = getattr(sys.modules.get(_NAME), '__spec__', None)
    return spec is not None and spec.origin == __name__


def _needs_stand_in() -> bool:
    """Whether mmcv is installed without its extension; found out without importing it."""
    mmcv = importlib.util.find_spec('mmcv')
    if mmcv is None:
        return False
    places = mmcv.submodule_search_locations
    return not any(finder.find_spec(_NAME, places) for finder in sys.meta_path)


def _warn_if_late() -> None:
    late = [name for name in _IMPORTERS if name in sys.modules]
    if late and 'mmcv.ops' not in sys.modules:
        warnings.warn(
            'imported before the operators of mmcv were available, and without them from now on: '
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
    # mmcv imports all its operators at once, so the absent ones may fail only when called.
    if name.startswith('_'):
        raise AttributeError(f'module {_NAME!r} has no attribute {name!r}')

    def operator(*_args: object, **_kwargs: object) -> None:
        raise _not_provided(name)

    operator.__name__ = operator.__qualname__ = name
    return operator


def _not_provided(what: str) -> RuntimeError:
    return RuntimeError(
        f'mmcv is not compiled here, and its stand-in on torchvision has no {what}. Compile mmcv, '
        'with a C++ compiler and, for GPUs, the CUDA toolkit of the installed torch: ' + _BUILD
    )


def _promote(*tensors: Tensor) -> list[Tensor]:
    double = any(tensor.dtype == torch.float64 for tensor in tensors)
    return [tensor.to(torch.float64 if double else torch.float32) for tensor in tensors]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: a box that overlaps a kept one by more is dropped; equality keeps it.
        offset: 1 where x2 and y2 are the last pixels inside the box, 0 where they are its edges.

    Returns:
        (K,) int64, indices of the kept boxes by descending score.
    """
    boxes, scores = _promote(boxes, scores)
    # In the precision of the overlaps, lest a threshold of 0.6 be exceeded by an overlap of 0.6.
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

    Takes N steps of O(N) vectorised work, fewer where `min_score` ends the search sooner.

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2.
        scores: (N,).
        dets: (N, 5), receives corners and decayed score of the kept boxes in its first K rows.
        iou_threshold: overlap from which methods 0 and 1 decay a score.
        sigma: width of method 2.
        min_score: boxes whose score has fallen below are dropped; the first choice is always kept.
        method: factor for overlap o, 0: zero; 1: 1 - o; 2: exp(-o² / sigma), for every o.
        offset: as for `nms`.

    Returns:
        (K,) int64, indices of the kept boxes in the order of their choice.
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
    """Intersection over union of one box (4,) with each of (N, 4); 0 where the boxes are empty."""
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
    """RoIAlign (Mask R-CNN, arXiv 1703.06870, section 3), the average over the samples of a bin.

    `input` is (B, C, H, W), `rois` (K, 5) of image index, x1, y1, x2, y2, and `output`, which
    receives the result, (K, C, aligned_height, aligned_width). `spatial_scale` is in pixels of
    `input` per unit of `rois`. A bin takes `sampling_ratio` samples a side, or, where that is 0,
    one per pixel, rounded up. Coordinates count from the corner of the first pixel if `aligned`,
    else from its centre, and regions are then widened to one pixel at least.

    Raises:
        RuntimeError: if `pool_mode` is 0, maximum, which alone uses `argmax_y` and `argmax_x`.
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
        target: (N,) class of each row; any value outside [0, C) is background.
        weight: (C,) factor for the rows of a class, or empty; background rows have factor 1.
        output: (N, C), receives the loss.
        gamma: focusing exponent.
        alpha: weight of the target class, 1 - alpha being that of the others.
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
    """Write the derivative of `sigmoid_focal_loss_forward` by `input` into `grad_input` (N, C)."""
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
    """Line `MMCV Compiler` of mmcv's report of the environment."""
    return f'none, torchvision {torchvision.__version__} stands in'


def get_compiling_cuda_version() -> str:
    """Line `MMCV CUDA Compiler` of mmcv's report of the environment."""
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
