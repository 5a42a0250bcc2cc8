"""Per-image records for classification (predicted classes) and segmentation (confusion of pixels).

They determine top-1 and top-5 accuracy, and mean IoU and pixel accuracies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.metrics.calibration import BINS, Confidences, confidences_of
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
        confidence: (N,), float, probability of the predicted class; None in files of earlier versions.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    label: np.ndarray
    predicted: np.ndarray
    place: np.ndarray
    confidence: np.ndarray | None = None

    def calibration(self) -> dict[str, Confidences]:
        """Return the confidences of the predicted classes, for `ECE` (Guo et al., arXiv 1706.04599)."""
        if self.confidence is None:
            return {}
        images = np.arange(len(self.images))
        right = self.right_images('top1')
        return {'ECE': confidences_of(images, 0 * images, self.confidence, right, BINS)}

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
    names: Sequence[str],
    guesses: Sequence[tuple[int, int, int]],
    classes: Sequence[str],
    confidences: Sequence[float] | None = None,
) -> ClassificationEvidence:
    """Collect the predictions of all images; the model may have additional classes.

    Args:
        names: names of the images.
        guesses: label, predicted class and rank of the label of each image.
        classes: names of the classes.
        confidences: probability of each predicted class; None if unknown.
    """
    order = np.argsort(names, kind='stable')
    label, predicted, place = np.array(guesses, np.int64).reshape(-1, 3)[order].T
    # A score that is no number, or below 0, is no confidence; readers refuse it.
    if confidences is not None and not all(0 <= each < np.inf for each in confidences):
        confidences = None
    return ClassificationEvidence(
        images=np.array(names)[order],
        classes=tuple(classes),
        label=label.astype(np.int32),
        predicted=np.minimum(predicted, len(classes)).astype(np.int32),
        place=place.astype(np.uint8),
        confidence=None if confidences is None else np.array(confidences, np.float32)[order],
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
        bin_pixels: (images, `BINS`), int64, number of labeled pixels by confidence. This and the next
            two are None in files of earlier versions, and if the model returns no scores.
        bin_right: (images, `BINS`), int64, how many of them are correct.
        bin_confidence: (images, `BINS`), float64, sum of their confidences.
    """

    images: np.ndarray
    classes: tuple[str, ...]
    image: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    pixels: np.ndarray
    bin_pixels: np.ndarray | None = None
    bin_right: np.ndarray | None = None
    bin_confidence: np.ndarray | None = None

    def tables(self) -> dict[str, list[str]]:
        """Return the names of arrays that form a table, keyed by its first column."""
        by_bin = [name for name in self.arrays() if name.startswith('bin_')]
        return {'image': ['label', 'predicted', 'pixels'], 'images': by_bin}

    def check(self) -> None:
        """Check that histograms count the pixels of the confusion matrices.

        Raises:
            ValueError: one of them is missing, or their numbers differ.
        """
        histograms = (self.bin_pixels, self.bin_right, self.bin_confidence)
        if all(each is None for each in histograms):
            return
        if any(each is None for each in histograms):
            raise ValueError('only some of bin_pixels, bin_right and bin_confidence are there')
        is_right = (self.label == self.predicted) & (self.label < len(self.classes))
        for histogram, weight in ((self.bin_pixels, 1), (self.bin_right, is_right)):
            counted = np.bincount(self.image, self.pixels * weight, len(self.images))
            if not np.array_equal(histogram.sum(1), counted):
                raise ValueError('histograms of confidence and confusion matrices do not agree')
        if not np.all((self.bin_right <= self.bin_pixels) & (self.bin_confidence <= self.bin_pixels)):
            raise ValueError('more correct or confident pixels than pixels')

    def calibration(self) -> dict[str, Confidences]:
        """Return the confidences of pixels, for `ECE` (Guo et al., arXiv 1706.04599)."""
        if self.bin_pixels is None:
            return {}
        image, place = np.nonzero(self.bin_pixels)
        sums = (self.bin_pixels, self.bin_confidence, self.bin_right)
        columns = [each[image, place].astype(np.float64) for each in sums]
        return {'ECE': Confidences(image, np.zeros_like(image), place, *columns, BINS)}

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
    names: Sequence[str],
    confusions: Sequence[np.ndarray],
    classes: Sequence[str],
    histograms: Sequence[np.ndarray | None] = (None,),
) -> SegmentationEvidence:
    """Collect the confusion of all images.

    Args:
        names: names of the images.
        confusions: true class, predicted class and number of pixels of each image, (N, 3) each.
        classes: names of the classes.
        histograms: number, sum of confidences and number of correct pixels by bin of each image,
            (BINS, 3) each; they are stored if all images have one.
    """
    order = np.argsort(names, kind='stable')
    by_bin = {}
    if all(each is not None and np.isfinite(each).all() for each in histograms):
        pixels, confidence, right = np.stack([histograms[i] for i in order]).transpose(2, 0, 1)
        by_bin = {
            'bin_pixels': pixels.astype(np.int64),
            'bin_right': right.astype(np.int64),
            'bin_confidence': confidence,
        }
    entries = np.concatenate([np.zeros((0, 3), np.int64), *(confusions[i] for i in order)])
    lengths = [len(confusions[i]) for i in order]
    return SegmentationEvidence(
        images=np.array(names)[order],
        classes=tuple(classes),
        image=np.repeat(np.arange(len(order)), lengths).astype(np.int32),
        label=entries[:, 0].astype(np.int16),
        predicted=entries[:, 1].astype(np.int16),
        pixels=entries[:, 2],
        **by_bin,
    )
