"""Figures of a contribution map: how much of the image holds most of it, and how wide it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Of RepLKNet's table 10 (Ding et al., arXiv 2203.06717).
THRESHOLDS = (0.2, 0.3, 0.5, 0.99)
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class GaussianFit:
    """A Gaussian around the middle, fitted to a profile.

    Attributes:
        sigma: standard deviation, in pixels.
        r2: share of the profile's sum of squares that the Gaussian explains; 1 is a perfect fit.
    """

    sigma: float
    r2: float


def centred_area_ratios(
    contribution: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> dict[float, float]:
    """Area of the smallest centred square that holds a share of all contribution, by that share.

    Squares have sides of 2k + 1 pixels around the pixel (H // 2, W // 2); the area is
    side ** 2 / (H * W), at most 1.

    Args:
        contribution: (H, W), none negative and not all 0.
        thresholds: shares, each above 0 and below 1.
    """
    height, width = contribution.shape
    held = _held_by_squares(contribution)
    reach = [int(np.searchsorted(held, share * held[-1])) for share in thresholds]
    return {
        share: min((2 * k + 1) ** 2 / (height * width), 1.0)
        for share, k in zip(thresholds, reach, strict=True)
    }


def logged_area_ratios(
    contribution: np.ndarray, thresholds: Sequence[float] = THRESHOLDS
) -> dict[float, float | None]:
    """Area ratios as RepLKNet's code measures them: of log10(contribution + 1), above a share.

    Squares have sides of 2k + 1 pixels, k from 1 to H // 2 - 1. The first that holds *more* than the
    share counts.

    Args:
        contribution: (H, W), none negative and not all 0.
        thresholds: shares, each above 0 and below 1.

    Returns:
        By share; None where no square holds more.
    """
    height, width = contribution.shape
    held = _held_by_squares(np.log10(contribution.astype(np.float64) + 1))
    ratios: dict[float, float | None] = {}
    for share in thresholds:
        enough = [k for k in range(1, height // 2) if held[min(k, len(held) - 1)] > share * held[-1]]
        ratios[share] = (2 * enough[0] + 1) ** 2 / (height * width) if enough else None
    return ratios


def _held_by_squares(contribution: np.ndarray) -> np.ndarray:
    """What the squares around the middle hold, by k, the largest all of it."""
    height, width = contribution.shape
    rows = np.abs(np.arange(height) - height // 2)
    columns = np.abs(np.arange(width) - width // 2)
    ring = np.maximum(rows[:, None], columns[None, :])
    return np.cumsum(np.bincount(ring.ravel(), contribution.ravel()))


def gaussian_fits(contribution: np.ndarray) -> tuple[GaussianFit, GaussianFit]:
    """Fits to the sums over columns and over rows: how wide a map is from top to bottom, and across.

    Args:
        contribution: (H, W), none negative and not all 0.
    """
    return _fit(contribution.sum(1)), _fit(contribution.sum(0))


def _fit(profile: np.ndarray) -> GaussianFit:
    """Least squares of a * exp(-d^2 / (2 sigma^2)), d from the middle.

    Not the profile's second moment, which one faint value at the edge moves more than the whole middle,
    and which the edges of the image cut short. For every sigma the best `a` is known, so that the search
    is for one number: over a grid, then between the neighbours of its best.
    """
    distances = np.arange(len(profile)) - len(profile) // 2

    def explained(log_sigma: float) -> float:
        shape = np.exp(-0.5 * (distances / np.exp(log_sigma)) ** 2)
        return float((shape @ profile) ** 2 / (shape @ shape))

    grid = np.linspace(np.log(0.1), np.log(10 * len(profile)), 200)
    best = int(np.argmax([explained(place) for place in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    while high - low > 1e-9:
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if explained(first) < explained(second):
            low = first
        else:
            high = second
    middle = (low + high) / 2
    return GaussianFit(float(np.exp(middle)), explained(middle) / float(profile @ profile))
