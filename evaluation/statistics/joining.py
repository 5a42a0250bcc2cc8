"""Two models' per-image records side by side, so that images can be swapped between the models."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics.evidence.records import Evidence


def joined(a: Evidence, b: Evidence, by_rank: bool = False) -> Evidence:
    """Put the records of two models into one evaluation of twice as many images.

    Image i of the first model becomes image 2 i and that of the second 2 i + 1. A metric of the joined
    records with weights `swap_weights(...)` is that of a model which has some images from each. The
    interleaved order makes ties between detections of both fall out the same whichever model is first.

    Args:
        a: records of the first model, of N images.
        b: records of the second, of the same images.
        by_rank: replace the score of a detection by its rank among those of its model and class, which
            changes no AP and makes scores of differently calibrated models comparable.
    """
    images = np.array([f'{name}/{model}' for name in a.images.tolist() for model in ('a', 'b')])
    return a.joined(b, images, by_rank)


def swap_weights(swapped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of joined images for both models.

    Args:
        swapped: (N,), bool, which images the models exchange.

    Returns:
        (2 N,) each, int64: what the first model has after the exchange, and the second.
    """
    first = np.stack([~swapped, swapped], axis=1).reshape(-1).astype(np.int64)
    return first, 1 - first


def differing_images(a: Evidence, b: Evidence) -> np.ndarray:
    """Return the images of which two models' records differ, (N,), bool."""
    ours, theirs = _rows_by_image(a, b), _rows_by_image(b, a)
    return np.array([not np.array_equal(*pair) for pair in zip(ours, theirs, strict=True)], np.bool_)


def _rows_by_image(evidence: Evidence, other: Evidence) -> list[np.ndarray]:
    """Return all that a figure of both depends on, by image, (rows, columns) each, sorted."""
    image, columns = evidence.rows(other)
    table = np.stack([column.astype(np.float64) for column in columns], axis=1)
    order = np.lexsort((*table.T, image))
    places = np.searchsorted(image[order], np.arange(1, len(evidence.images)))
    return np.split(table[order], places)


def balanced_pairs(a: Sequence[Evidence], b: Sequence[Evidence]) -> list[tuple[Evidence, Evidence]]:
    """Pair the runs of two models, each run of a model equally often."""
    return [(a[number % len(a)], b[number % len(b)]) for number in range(np.lcm(len(a), len(b)))]
