"""Histograms of the confidence of pixels, for the calibration of segmentors."""

import numpy as np
import torch
from torch import Tensor

from evaluation.metrics.calibration import BINS

# Label of pixels that do not count.
IGNORED = 255
# Numbers of a map of scores to process at once, so that a large map needs no copy.
NUMBERS_AT_ONCE = 1 << 22


def confidence_histogram(scores: Tensor, predicted: Tensor, label: Tensor, classes: int) -> np.ndarray:
    """Return number, confidence and correct predictions of an image's labeled pixels by bin.

    The confidence is the softmax probability of the predicted class. Sums over pixels are matrix
    products, which are reproducible on a GPU.

    Args:
        scores: logits, (channels, H, W), or the probability of class 1, (1, H, W).
        predicted: class of each pixel, (1, H, W).
        label: true class of each pixel, (1, H, W); `IGNORED` for pixels that do not count.
        classes: number of classes of the data set.

    Returns:
        (BINS, 3), float64: number of pixels, sum of their confidences, number of correct ones.
    """
    device = scores.device
    flat, found = scores.flatten(1), predicted.flatten().to(device)
    true = label.flatten().to(device)
    step = max(1, NUMBERS_AT_ONCE // len(flat))
    places = torch.arange(BINS, device=device)
    inner = torch.linspace(0, 1, BINS + 1, dtype=torch.float64, device=device)[1:-1]
    total = torch.zeros(3, BINS, dtype=torch.float64, device=device)
    for start in range(0, flat.shape[1], step):
        own = slice(start, start + step)
        confidence = _confidence(flat[:, own].float(), found[own]).double()
        counts = (true[own] != IGNORED).double()
        is_right = (true[own] == found[own]) & (true[own] < classes)
        members = torch.bucketize(confidence, inner)[:, None] == places
        total += torch.stack([counts, counts * confidence, counts * is_right]) @ members.double()
    return total.T.cpu().numpy()


def _confidence(scores: Tensor, predicted: Tensor) -> Tensor:
    """Return the probability of the predicted class, (N,), from scores (channels, N)."""
    if len(scores) == 1:
        return torch.where(predicted > 0, scores[0], 1 - scores[0])
    return 1 / (scores - scores.amax(0)).exp_().sum(0)
