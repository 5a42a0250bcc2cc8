"""Confusion of classes, image by image: all that mean IoU and the accuracies of pixels depend on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SegmentationEvidence:
    """Pixels by image, true class and predicted class, where there are any.

    Attributes:
        images: names of all images that were looked at, in ascending order.
        classes: names of the classes.
        image: (N,), int32, place in `images`.
        label: (N,), int16, true class; the number of classes stands for labels that are none of them.
        predicted: (N,), int16, predicted class, likewise.
        pixels: (N,), int64, how many.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    pixels: np.ndarray


def collect_confusion(
    names: Sequence[str], confusions: Sequence[np.ndarray], classes: Sequence[str]
) -> SegmentationEvidence:
    """Put the confusion of all images together.

    Args:
        names: of the images.
        confusions: of each (N, 3): true class, predicted class, pixels.
        classes: names of the classes.
    """
    order = np.argsort(names, kind='stable')
    entries = np.concatenate([np.zeros((0, 3), np.int64), *(confusions[i] for i in order)])
    lengths = [len(confusions[i]) for i in order]
    return SegmentationEvidence(
        images=np.array(names)[order],
        classes=tuple(classes),
        image=np.repeat(np.arange(len(order)), lengths).astype(np.int32),
        label=entries[:, 0].astype(np.int16),
        predicted=entries[:, 1].astype(np.int16),
        pixels=entries[:, 2],
    )
