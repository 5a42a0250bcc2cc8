"""Per-image records of classes: the guess of an image, and the confusion of its pixels.

Top-1 and top-5 accuracy depend on nothing else; nor do mean IoU and the accuracies of pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.records import Evidence, Measure, interleaved

# How many classes of the highest scores count for top-5 accuracy.
GUESSES = 5
# How many guesses each image has, by metric.
GUESSES_OF = {'top1': 1, 'top5': GUESSES}
METRICS = ('mIoU', 'mAcc', 'aAcc')


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


@dataclass(frozen=True)
class SegmentationEvidence(Evidence):
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

    def tables(self) -> dict[str, list[str]]:
        """Return which arrays are columns of a table, by its first column."""
        return {'image': ['label', 'predicted', 'pixels']}

    def metrics_of(self, wanted: str) -> Measure:
        """Return the function that computes mIoU, mean accuracy of classes and accuracy of pixels.

        Raises:
            KeyError: there is no such metric.
        """
        if wanted not in METRICS:
            raise KeyError(wanted)
        classes, images = len(self.classes), len(self.images)
        labelled, found = self.label < classes, self.predicted < classes
        tables = [
            self._by_image(self.label, labelled & (self.label == self.predicted)),
            self._by_image(self.label, labelled),
            self._by_image(self.predicted, found),
        ]
        # (images, 3 x classes), so that one product counts all.
        areas = np.concatenate(tables, axis=1) if images else np.zeros((0, 3 * classes))

        def evaluate(weights: np.ndarray) -> dict[str, float]:
            intersection, label, predicted = (weights @ areas).reshape(3, classes)
            with np.errstate(invalid='ignore', divide='ignore'):
                iou = intersection / (label + predicted - intersection)
                accuracy = intersection / label
                pixels = float(intersection.sum() / label.sum())
            figures = (_mean(iou), _mean(accuracy), pixels)
            return {name: 100 * value for name, value in zip(METRICS, figures, strict=True)}

        return evaluate

    def _by_image(self, column: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Count pixels by image and class, (images, classes), exact in double precision."""
        table = np.zeros((len(self.images), len(self.classes)))
        np.add.at(table, (self.image[chosen], column[chosen]), self.pixels[chosen])
        return table

    def rows(self, other: 'SegmentationEvidence') -> tuple[np.ndarray, list[np.ndarray]]:
        """Return all counts of pixels."""
        return self.image, [self.label, self.predicted, self.pixels]

    def joined(
        self, other: 'SegmentationEvidence', images: np.ndarray, by_rank: bool
    ) -> 'SegmentationEvidence':
        """Put the records of two models into one; there are no scores to rank."""
        return SegmentationEvidence(
            images=images,
            classes=self.classes,
            image=interleaved(self.image, other.image),
            label=np.concatenate([self.label, other.label]),
            predicted=np.concatenate([self.predicted, other.predicted]),
            pixels=np.concatenate([self.pixels, other.pixels]),
        )


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


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
