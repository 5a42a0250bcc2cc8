"""Per-image records for classification (predicted classes) and segmentation (confusion of pixels).

They determine top-1 and top-5 accuracy, and mean IoU and pixel accuracies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.records import Evidence, Measure, interleaved

# Number of highest-scoring classes that count for top-5 accuracy.
GUESSES = 5
# Number of guesses allowed for each image, by metric.
GUESSES_OF = {'top1': 1, 'top5': GUESSES}
METRICS = ('mIoU', 'mAcc', 'aAcc')


@dataclass(frozen=True)
class ClassificationEvidence(Evidence):
    """Label and prediction of each image.

    Attributes:
        images: names of all evaluated images, in ascending order.
        classes: names of the classes.
        label: (N,), int32, true class.
        predicted: (N,), int32, class with the highest score; equal to the number of classes if the data
            set does not have this class.
        place: (N,), uint8, rank of the true class by score, from 0; 5 stands for any lower rank.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    label: np.ndarray
    predicted: np.ndarray
    place: np.ndarray

    def metrics_of(self, wanted: str) -> Measure:
        """Return the function that computes top-1 and top-5 accuracy.

        Raises:
            KeyError: the metric is unknown.
        """
        if wanted not in GUESSES_OF:
            raise KeyError(wanted)
        right = {name: self.right_images(name) for name in GUESSES_OF}

        def evaluate(weights: np.ndarray) -> dict[str, float]:
            total = weights.sum()
            return {name: 100 * float(weights[chosen].sum() / total) for name, chosen in right.items()}

        return evaluate

    def right_images(self, metric: str) -> np.ndarray:
        """Return which images count as correct for `top1` or `top5`, (N,), bool."""
        return self.place < GUESSES_OF[metric]


def collect_guesses(
    names: Sequence[str], guesses: Sequence[tuple[int, int, int]], classes: Sequence[str]
) -> ClassificationEvidence:
    """Collect label, predicted class and rank of all images; the model may have additional classes."""
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
    """Number of pixels for each image, true class and predicted class; zero counts are omitted.

    Attributes:
        images: names of all evaluated images, in ascending order.
        classes: names of the classes.
        image: (N,), int32, index into `images`.
        label: (N,), int16, true class; equal to the number of classes for any other label.
        predicted: (N,), int16, predicted class; equal to the number of classes for any other class.
        pixels: (N,), int64, number of pixels.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    pixels: np.ndarray

    def tables(self) -> dict[str, list[str]]:
        """Return the names of arrays that form a table, keyed by its first column."""
        return {'image': ['label', 'predicted', 'pixels']}

    def metrics_of(self, wanted: str) -> Measure:
        """Return the function that computes mIoU, mean class accuracy and pixel accuracy.

        Raises:
            KeyError: the metric is unknown.
        """
        if wanted not in METRICS:
            raise KeyError(wanted)
        classes, images = len(self.classes), len(self.images)
        labeled, found = self.label < classes, self.predicted < classes
        tables = [
            self._by_image(self.label, labeled & (self.label == self.predicted)),
            self._by_image(self.label, labeled),
            self._by_image(self.predicted, found),
        ]
        # (images, 3 x classes), so that one matrix product computes all areas.
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
        """Count pixels by image and class, (images, classes), exactly in double precision."""
        table = np.zeros((len(self.images), len(self.classes)))
        np.add.at(table, (self.image[chosen], column[chosen]), self.pixels[chosen])
        return table

    def rows(self, other: 'SegmentationEvidence') -> tuple[np.ndarray, list[np.ndarray]]:
        """Return all pixel counts."""
        return self.image, [self.label, self.predicted, self.pixels]

    def joined(
        self, other: 'SegmentationEvidence', images: np.ndarray, by_rank: bool
    ) -> 'SegmentationEvidence':
        """Join the records of two models; there are no scores to rank."""
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
    """Collect the confusion of all images.

    Args:
        names: names of the images.
        confusions: true class, predicted class and number of pixels of each image, (N, 3) each.
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
