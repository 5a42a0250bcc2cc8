"""Label and guess of each image: all that top-1 and top-5 accuracy depend on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.evidence.base import Evidence, Measure

# How many classes of the highest scores count for top-5 accuracy.
GUESSES = 5
# How many guesses each image has, by metric.
GUESSES_OF = {'top1': 1, 'top5': GUESSES}


@dataclass(frozen=True)
class ClassificationEvidence(Evidence):
    """What became of each image.

    Attributes:
        images: names of all images that were looked at, in ascending order.
        classes: names of the classes.
        label: (N,), int32, true class.
        predicted: (N,), int32, class of the highest score; the number of classes stands for those that
            the model has and the data set has not.
        place: (N,), uint8, of the true class among the scores, from 0; 5 for any later one.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    label: np.ndarray
    predicted: np.ndarray
    place: np.ndarray

    def metrics_of(self, wanted: str) -> Measure:
        """Return the function that computes top-1 and top-5 accuracy.

        Raises:
            KeyError: there is no such metric.
        """
        if wanted not in GUESSES_OF:
            raise KeyError(wanted)
        right = {name: self.right_images(name) for name in GUESSES_OF}

        def evaluate(weights: np.ndarray) -> dict[str, float]:
            total = weights.sum()
            return {name: 100 * float(weights[chosen].sum() / total) for name, chosen in right.items()}

        return evaluate

    def right_images(self, metric: str) -> np.ndarray:
        """Return the images that count as right for `top1` or `top5`, (N,), bool."""
        return self.place < GUESSES_OF[metric]


def collect_guesses(
    names: Sequence[str], guesses: Sequence[tuple[int, int, int]], classes: Sequence[str]
) -> ClassificationEvidence:
    """Put label, predicted class and place of all images together; the model may have more classes."""
    order = np.argsort(names, kind='stable')
    label, predicted, place = np.array(guesses, np.int64).reshape(-1, 3)[order].T
    return ClassificationEvidence(
        images=np.array(names)[order],
        classes=tuple(classes),
        label=label.astype(np.int32),
        predicted=np.minimum(predicted, len(classes)).astype(np.int32),
        place=place.astype(np.uint8),
    )
