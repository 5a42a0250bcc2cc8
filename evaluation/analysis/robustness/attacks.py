"""Images changed within a budget so that a model's loss rises: the fast gradient method and PGD.

FGSM: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", arXiv 1412.6572, section 4.
PGD: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083,
section 2.1. Both untargeted, on pixels of 0 to 255.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.utils.errors import UserError

ATTACKS = ('fgsm', 'pgd')
NORMS = ('linf', 'l2')
LARGEST_PIXEL = 255.0
# All steps together could go this many times from the middle of the ball to its edge, so that the last
# ones can still move along the edge; Madry et al. take as much.
REACH = 2.5

# From images (B, 3, H, W) to the loss of each, (B,), which no other image may change.
Loss = Callable[[Tensor], Tensor]
DEFAULT_BUDGETS = {'linf': (1.0, 2.0, 4.0, 8.0), 'l2': (0.25, 0.5, 1.0, 2.0)}
UNITS = {
    'linf': 'largest change of a pixel, in 255ths',
    'l2': 'root mean square change of the pixels, in 255ths',
}


@dataclass(frozen=True)
class Slope:
    """Loss of each image, (B,), and its gradient with respect to the images, (B, 3, H, W)."""

    values: Tensor
    gradient: Tensor


def slope(loss: Loss, images: Tensor) -> Slope:
    """Loss and gradient at some images.

    Raises:
        UserError: the loss does not depend on the images by differentiable operations alone, or loss or
            gradient are no finite numbers.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        values = loss(images)
    gradient = None
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(values.sum(), images, allow_unused=True)
    if gradient is None:
        raise UserError(
            'the model computes its loss without a gradient with respect to the image, so it cannot be '
            'attacked; leave the attacks out with --attacks none'
        )
    if not (values.isfinite().all() and gradient.isfinite().all()):
        raise UserError(
            'the loss or its gradient is no finite number; give a checkpoint whose training did not '
            'diverge'
        )
    return Slope(values.detach(), gradient)


def fgsm(images: Tensor, gradient: Tensor, radius: Tensor, norm: str) -> Tensor:
    """One step up the gradient, as long as the budget: its sign in `linf`, its direction in `l2`.

    Args:
        images: (B, 3, H, W), 0 to 255.
        gradient: of the loss, of the same shape.
        radius: (B,), float64, largest norm of the change of each image.
        norm: `linf` or `l2`.
    """
    return added(images, per_image(radius) * steepest(gradient, norm))


def pgd(
    loss: Loss, images: Tensor, clean: Slope, radius: Tensor, norm: str, steps: int, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Steps up the gradient, after each of which the change is put back within the budget.

    Of each image the best of all that was seen is kept, the image itself and what FGSM makes of it
    among them. So no loss is below that of FGSM.

    Args:
        loss: to be raised.
        images: (B, 3, H, W), 0 to 255.
        clean: loss and gradient at the images.
        radius: (B,), float64, largest norm of the change of each image.
        norm: `linf` or `l2`.
        steps: how many, each of `REACH * radius / steps`.
        start: (B, 3, H, W), float64, where in the ball of radius 1 to begin; see `random_start`.

    Returns:
        Images, (B, 3, H, W), and their losses, (B,).
    """
    found, best = images, clean.values

    def keep_better(candidates: Tensor, values: Tensor) -> None:
        nonlocal found, best
        found = torch.where(per_image(values > best), candidates, found)
        best = torch.where(values > best, values, best)

    single = fgsm(images, clean.gradient, radius, norm)
    keep_better(single, losses(loss, single))
    here = added(images, per_image(radius) * start)
    step = per_image(REACH * radius / steps)
    for _ in range(steps):
        there = slope(loss, here)
        keep_better(here, there.values)
        change = here.double() - images.double() + step * steepest(there.gradient, norm)
        here = added(images, within(change, radius, norm))
    keep_better(here, losses(loss, here))
    return found, best


def losses(loss: Loss, images: Tensor) -> Tensor:
    """Loss of each image, (B,), without a gradient."""
    with torch.no_grad():
        return loss(images)


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """The change of norm 1 along which a loss rises most, (B, 3, H, W), float64.

    No change where an image has no gradient.
    """
    gradient = gradient.double()
    if norm == 'linf':
        return gradient.sign()
    return gradient / _lengths(gradient)


def within(change: Tensor, radius: Tensor, norm: str) -> Tensor:
    """The nearest change whose norm is at most `radius`, (B, 3, H, W)."""
    if norm == 'linf':
        return change.clamp(-per_image(radius), per_image(radius))
    return change * (per_image(radius) / _lengths(change)).clamp(max=1.0)


def added(images: Tensor, change: Tensor) -> Tensor:
    """Changed images with valid pixels, in single precision, no pixel changed by more than asked for.

    Args:
        images: (B, 3, H, W), 0 to 255.
        change: (B, 3, H, W), float64.
    """
    total = (images.double() + change).to(images.dtype)
    beyond = (total.double() - images.double()).abs() > change.abs()
    return torch.where(beyond, torch.nextafter(total, images), total).clamp(0.0, LARGEST_PIXEL)


def random_start(seeds: Sequence[Sequence[int]], shape: Sequence[int], norm: str) -> Tensor:
    """A place in the ball of radius 1 for each image, all of its volume alike.

    Args:
        seeds: of each image, whole numbers that say which place.
        shape: of an image, (3, H, W).
        norm: `linf` or `l2`.

    Returns:
        (B, 3, H, W), float64, on the CPU.
    """
    return torch.from_numpy(np.stack([_place(seed, shape, norm) for seed in seeds]))


def _place(seed: Sequence[int], shape: Sequence[int], norm: str) -> np.ndarray:
    generator = np.random.default_rng(seed)
    if norm == 'linf':
        return generator.uniform(-1.0, 1.0, shape)
    direction = generator.standard_normal(shape)
    distance = generator.uniform() ** (1 / direction.size)
    return distance * direction / np.linalg.norm(direction)


def per_image(values: Tensor) -> Tensor:
    """A number for each image, (B,), to be combined with images, (B, 1, 1, 1)."""
    return values[:, None, None, None]


def _lengths(change: Tensor) -> Tensor:
    """Euclidean lengths to divide by, (B, 1, 1, 1); 1 in place of 0."""
    lengths = change.square().sum((1, 2, 3), keepdim=True).sqrt()
    return torch.where(lengths > 0, lengths, 1.0)


def radius_of(budget: float, norm: str, shape: Sequence[int]) -> float:
    """Largest norm of the change of an image with pixels of 0 to 255.

    Args:
        budget: in 255ths of the pixels' range: of each change in `linf`, of their root mean square in
            `l2`.
        norm: `linf` or `l2`.
        shape: of the image, (3, H, W).
    """
    return budget * math.sqrt(math.prod(shape)) if norm == 'l2' else budget
