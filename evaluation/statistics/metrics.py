"""Metrics of an evaluation as functions of how often each image counts."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evaluation.metrics.average_precision.matching import AREAS, OVERLAPS
from evaluation.metrics.average_precision.resampled import mean_of_present, precisions_by_class
from evaluation.metrics.evidence.classification import GUESSES, ClassificationEvidence
from evaluation.metrics.evidence.files import Evidence
from evaluation.metrics.evidence.instances import InstanceEvidence
from evaluation.metrics.evidence.segmentation import SegmentationEvidence

# From how often each image counts, (images,), int64, to figures in percent, NaN where undefined.
Metric = Callable[[np.ndarray], dict[str, float]]


def each_image_once(evidence: Evidence) -> np.ndarray:
    """How often each image counts where they are taken as they are, (images,), int64."""
    return np.ones(len(evidence.images), np.int64)


def metrics_of(evidence: Evidence, wanted: str) -> Metric:
    """The function that computes what the named metric belongs to, and what comes along with it.

    Args:
        evidence: of an evaluation.
        wanted: name of a metric, such as `box_AP50`, `mIoU` or `top1`.

    Raises:
        KeyError: the evidence does not determine such a metric.
    """
    if isinstance(evidence, InstanceEvidence):
        kind, _, statistic = wanted.partition('_')
        area = {'APs': 'small', 'APm': 'medium', 'APl': 'large'}.get(statistic, 'all')
        if kind not in evidence.matches or statistic not in STATISTICS[area]:
            raise KeyError(wanted)
        return average_precision(evidence, kind, area)
    metric, names = {
        SegmentationEvidence: (intersection_over_union, ('mIoU', 'mAcc', 'aAcc')),
        ClassificationEvidence: (accuracy, ('top1', 'top5')),
    }[type(evidence)]
    if wanted not in names:
        raise KeyError(wanted)
    return metric(evidence)


def metric_of(evidence: Evidence, names: Sequence[str]) -> Metric:
    """Return the function that computes the named metrics, and what comes along with them.

    Raises:
        KeyError: the evidence does not determine one of them.
    """
    parts: list[Metric] = []
    known: set[str] = set()
    for name in names:
        if name not in known:
            parts.append(metrics_of(evidence, name))
            known |= parts[-1](each_image_once(evidence)).keys()

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        return {name: value for part in parts for name, value in part(weights).items()}

    return evaluate


# Which thresholds of overlap the statistics of a range of areas are means over.
STATISTICS: Mapping[str, Mapping[str, slice]] = {
    'all': {'AP': slice(None), 'AP50': slice(0, 1), 'AP75': slice(5, 6)},
    'small': {'APs': slice(None)},
    'medium': {'APm': slice(None)},
    'large': {'APl': slice(None)},
}


def average_precision(evidence: InstanceEvidence, kind: str, area: str = 'all') -> Metric:
    """AP over classes and overlaps, and for all areas AP50 and AP75 too.

    Args:
        evidence: of an evaluation.
        kind: `box` or `mask`.
        area: a range of areas, of `AREAS`.
    """
    matches, column = evidence.matches[kind], AREAS.index(area)
    counted = evidence.object_counts[:, column]
    by_class = precisions_by_class(
        (evidence.detection_class, evidence.detection_score, evidence.detection_image),
        matches.hits[:, column],
        matches.ignored[:, column],
        (evidence.object_class[counted], evidence.object_image[counted]),
        len(evidence.classes),
        len(OVERLAPS),
    )

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        precisions = by_class(weights)
        return {
            f'{kind}_{name}': mean_of_present(precisions[:, overlaps])
            for name, overlaps in STATISTICS[area].items()
        }

    return evaluate


def intersection_over_union(evidence: SegmentationEvidence) -> Metric:
    """mIoU, mean accuracy of classes and accuracy of pixels."""
    classes, images = len(evidence.classes), len(evidence.images)
    labelled, found = evidence.label < classes, evidence.predicted < classes
    tables = [
        _by_image(evidence, evidence.label, labelled & (evidence.label == evidence.predicted)),
        _by_image(evidence, evidence.label, labelled),
        _by_image(evidence, evidence.predicted, found),
    ]
    # (images, 3 x classes), so that one product counts all.
    areas = np.concatenate(tables, axis=1) if images else np.zeros((0, 3 * classes))

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        intersection, label, predicted = (weights @ areas).reshape(3, classes)
        with np.errstate(invalid='ignore', divide='ignore'):
            iou = intersection / (label + predicted - intersection)
            return {
                'mIoU': 100 * _mean(iou),
                'mAcc': 100 * _mean(intersection / label),
                'aAcc': 100 * float(intersection.sum() / label.sum()),
            }

    return evaluate


def _by_image(evidence: SegmentationEvidence, column: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Pixels by image and class, (images, classes), exact in double precision."""
    table = np.zeros((len(evidence.images), len(evidence.classes)))
    np.add.at(table, (evidence.image[chosen], column[chosen]), evidence.pixels[chosen])
    return table


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


# Metrics that are the share of images with a right answer, and how many guesses each image has.
GUESSES_OF = {'top1': 1, 'top5': GUESSES}


def right_images(evidence: ClassificationEvidence, metric: str) -> np.ndarray:
    """Return the images that count as right for `top1` or `top5`, (N,), bool."""
    return evidence.place < GUESSES_OF[metric]


def accuracy(evidence: ClassificationEvidence) -> Metric:
    """Top-1 and top-5 accuracy."""
    right = {name: right_images(evidence, name) for name in GUESSES_OF}

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        total = weights.sum()
        return {name: 100 * float(weights[chosen].sum() / total) for name, chosen in right.items()}

    return evaluate
