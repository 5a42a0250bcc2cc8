"""How much each pixel of an image contributes to a number that a network computes from it.

The contribution of a pixel is the absolute gradient of the number, summed over the channels of the image
(Luo et al., "Understanding the Effective Receptive Field", arXiv 1701.04128, section 2). RepLKNet's code
(arXiv 2203.06717) sums the positive part of the gradient instead.
"""

import torch
from torch import Tensor

from evaluation.utils.errors import UserError


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
