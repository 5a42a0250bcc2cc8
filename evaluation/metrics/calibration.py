"""Calibration errors: how far confidences are from the outcomes that they promise.

A model is calibrated if predictions with a confidence of 0.8 have an outcome of 0.8 on average. The
outcome of a class is whether it is correct; that of a detection is its overlap with the object it finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# Guo et al., arXiv 1706.04599.
BINS = 15
# Oksuz et al., arXiv 2307.00934.
DETECTION_BINS = 25


@dataclass(frozen=True)
class Confidences:
    """Sums over the predictions of each image, group and bin of confidence.

    Attributes:
        image: (R,), index of the image.
        group: (R,), index of the group; errors are averaged over groups, such as classes.
        bin: (R,), index of the bin.
        count: (R,), number of predictions.
        confidence: (R,), sum of their confidences.
        outcome: (R,), sum of their outcomes, each from 0 to 1.
        bins: number of bins of equal width, from 0 to 1.
    """

    image: np.ndarray
    group: np.ndarray
    bin: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    outcome: np.ndarray
    bins: int

    def error(self, weights: np.ndarray) -> float:
        """Return the expected calibration error in percent, averaged over groups with predictions.

        In a group of n predictions it is the sum over bins of n_b / n |confidence_b - outcome_b|, with
        the means over the n_b predictions of a bin (Guo et al., equation 3).

        Args:
            weights: how often each image counts, (images,).

        Returns:
            The error; NaN without predictions.
        """
        groups = int(self.group.max(initial=-1)) + 1
        place = self.group * self.bins + self.bin
        weight = weights[self.image]
        count, gap = (
            np.bincount(place, weight * each, groups * self.bins).reshape(groups, self.bins)
            for each in (self.count, self.confidence - self.outcome)
        )
        total = count.sum(1)
        present = total > 0
        if not present.any():
            return np.nan
        return 100 * float(np.mean(np.abs(gap[present]).sum(1) / total[present]))

    def diagram(self) -> np.ndarray:
        """Return the reliability diagram over all groups together.

        Returns:
            (bins, 3): number of predictions, and means of confidence and outcome, NaN in empty bins.
        """
        count, *sums = (
            np.bincount(self.bin, each, self.bins)
            for each in (self.count, self.confidence, self.outcome)
        )
        with np.errstate(invalid='ignore', divide='ignore'):
            return np.stack([count, *(each / count for each in sums)], axis=1)


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Return the bin of each confidence, (N,); bin i of B is the interval (i / B, (i + 1) / B]."""
    edges = np.linspace(0, 1, bins + 1)
    return np.maximum(np.searchsorted(edges, confidence.astype(np.float64)) - 1, 0)


def confidences_of(
    image: np.ndarray,
    group: np.ndarray,
    confidence: np.ndarray,
    outcome: np.ndarray,
    bins: int,
) -> Confidences:
    """Return the sums of single predictions; none if some confidence is not from 0 to 1.

    Args:
        image: (N,), image of each prediction.
        group: (N,), group of each prediction.
        confidence: (N,), confidence of each prediction.
        outcome: (N,), outcome of each prediction, from 0 to 1.
        bins: number of bins.
    """
    are_shares = np.all((confidence >= 0) & (confidence <= 1))
    columns = [each[: len(each) * are_shares] for each in (image, group, confidence, outcome)]
    image, group, confidence, outcome = columns
    return Confidences(
        image=image.astype(np.int64),
        group=group.astype(np.int64),
        bin=bin_of(confidence, bins),
        count=np.ones(len(image)),
        confidence=confidence.astype(np.float64),
        outcome=outcome.astype(np.float64),
        bins=bins,
    )


def calibration_errors(parts: Mapping[str, Confidences], images: int) -> dict[str, float | None]:
    """Return the calibration errors of an evaluation in percent, by name; None if undefined.

    Args:
        parts: confidences by name of the error, from `Evidence.calibration`.
        images: number of images.
    """
    once = np.ones(images, np.int64)
    values = {name: part.error(once) for name, part in parts.items()}
    return {name: None if np.isnan(value) else value for name, value in values.items()}
