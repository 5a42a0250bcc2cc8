"""Untargeted adversarial attacks on pixels from 0 to 255: FGSM and PGD.

FGSM: Goodfellow et al., "Explaining and Harnessing Adversarial Examples", arXiv 1412.6572, section 4.
PGD: Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks", arXiv 1706.06083,
section 2.1.
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
# Total length of all steps in radii of the ball, as in Madry et al. Above 1, so that the last steps can
# still move along its surface.
REACH = 2.5

# From images (B, 3, H, W) to losses (B,), each of which depends only on its own image.
Loss = Callable[[Tensor], Tensor]
DEFAULT_BUDGETS = {'linf': (1.0, 2.0, 4.0, 8.0), 'l2': (0.25, 0.5, 1.0, 2.0)}
UNITS = {
    'linf': 'largest change of a pixel, in 255ths',
    'l2': 'root mean square change of the pixels, in 255ths',
}


@dataclass(frozen=True)
class Slope:
    """Losses of images, (B,), and their gradient with respect to the images, (B, 3, H, W)."""

    values: Tensor
    gradient: Tensor


def slope(loss: Loss, images: Tensor) -> Slope:
    """Return loss and gradient at some images.

    Raises:
        UserError: the loss is not differentiable with respect to the images, or the loss or gradient is
            non-finite.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        values = loss(images)
    gradient = None
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(values.sum(), images, allow_unused=True)
    if gradient is None:
        raise UserError(
            'the loss of the model has no gradient with respect to the image, so the model cannot be '
            'attacked; disable attacks with --attacks none'
        )
    if not (values.isfinite().all() and gradient.isfinite().all()):
        raise UserError(
            'the loss or its gradient is non-finite; give a checkpoint whose training did not diverge'
        )
    return Slope(values.detach(), gradient)


def fgsm(images: Tensor, gradient: Tensor, radius: Tensor, norm: str) -> Tensor:
    """Take one step along the gradient with the full budget: its sign (`linf`) or direction (`l2`).

    Args:
        images: (B, 3, H, W), 0 to 255.
        gradient: gradient of the loss, same shape as `images`.
        radius: (B,), float64, largest norm of each image's change.
        norm: `linf` or `l2`.
    """
    return added(images, per_image(radius) * steepest(gradient, norm))


def pgd(
    loss: Loss, images: Tensor, clean: Slope, radius: Tensor, norm: str, steps: int, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Take steps along the gradient, projecting the change to the budget after each.

    For each image, the candidate with the highest loss is kept, including the clean image and the
    result of FGSM. So no loss is below that of FGSM.

    Args:
        loss: loss to increase.
        images: (B, 3, H, W), 0 to 255.
        clean: loss and gradient at the images.
        radius: (B,), float64, largest norm of each image's change.
        norm: `linf` or `l2`.
        steps: number of steps, each of length `REACH * radius / steps`.
        start: (B, 3, H, W), float64, initial point in the ball of radius 1; see `random_start`.

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
    """Return the loss of each image, (B,), without a gradient."""
    with torch.no_grad():
        return loss(images)


def steepest(gradient: Tensor, norm: str) -> Tensor:
    """Return the steepest-ascent direction of norm 1, (B, 3, H, W), float64.

    The direction is zero for images whose gradient is zero.
    """
    gradient = gradient.double()
    if norm == 'linf':
        return gradient.sign()
    return gradient / _lengths(gradient)


def within(change: Tensor, radius: Tensor, norm: str) -> Tensor:
    """Project a change, (B, 3, H, W), to norm at most `radius`."""
    if norm == 'linf':
        return change.clamp(-per_image(radius), per_image(radius))
    return change * (per_image(radius) / _lengths(change)).clamp(max=1.0)


def added(images: Tensor, change: Tensor) -> Tensor:
    """Add a change to images in single precision, keep pixels valid, and never exceed the change.

    Args:
        images: (B, 3, H, W), 0 to 255.
        change: (B, 3, H, W), float64.
    """
    total = (images.double() + change).to(images.dtype)
    beyond = (total.double() - images.double()).abs() > change.abs()
    return torch.where(beyond, torch.nextafter(total, images), total).clamp(0.0, LARGEST_PIXEL)


def random_start(seeds: Sequence[Sequence[int]], shape: Sequence[int], norm: str) -> Tensor:
    """Sample a point uniformly from the ball of radius 1 for each image.

    Args:
        seeds: seed of each image, a sequence of integers.
        shape: shape of an image, (3, H, W).
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
    """Reshape one number per image, (B,), to (B, 1, 1, 1), for broadcasting."""
    return values[:, None, None, None]


def _lengths(change: Tensor) -> Tensor:
    """Return Euclidean lengths, (B, 1, 1, 1), with 1 instead of 0, for division."""
    lengths = change.square().sum((1, 2, 3), keepdim=True).sqrt()
    return torch.where(lengths > 0, lengths, 1.0)


def radius_of(budget: float, norm: str, shape: Sequence[int]) -> float:
    """Return the largest norm of the change of an image with pixels from 0 to 255.

    Args:
        budget: largest change of a pixel (`linf`), or root mean square change (`l2`), in 255ths of the
            pixel range.
        norm: `linf` or `l2`.
        shape: shape of the image, (3, H, W).
    """
    return budget * math.sqrt(math.prod(shape)) if norm == 'l2' else budget
