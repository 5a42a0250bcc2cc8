"""Average precision from matches, with a weight for each image."""

from collections.abc import Callable

import numpy as np

from evaluation.metrics.coco_matching import RECALLS, compiled


def precisions_by_class(
    detections: tuple[np.ndarray, np.ndarray, np.ndarray],
    hits: np.ndarray,
    ignored: np.ndarray,
    objects: tuple[np.ndarray, np.ndarray],
    classes: int,
    thresholds: int,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that computes mean precision over recalls for each class and threshold.

    Args:
        detections: class, score and image of detections, (D,) each; images ascend within a class.
        hits: (D,), uint16, bits of the thresholds at which a detection is a true positive.
        ignored: (D,), uint16, bits of the thresholds at which a detection does not count.
        objects: class and image of objects that count, (G,) each.
        classes: number of classes.
        thresholds: number of thresholds.

    Returns:
        A function from image counts, (images,), int64, to fractions, (classes, thresholds); NaN if no
        object counts.
    """
    label, score, image = detections
    order, starts, tied = ranked(label, score, image, classes)
    columns = [np.ascontiguousarray(column[order]) for column in (image, hits, ignored)]

    def evaluate(weights: np.ndarray) -> np.ndarray:
        counts = np.bincount(objects[0], weights=weights[objects[1]], minlength=classes)
        return precision_sums(
            columns[0],
            starts,
            tied,
            columns[1],
            columns[2],
            counts.astype(np.int64),
            weights,
            RECALLS,
            thresholds,
        )

    return evaluate


def mean_of_present(precisions: np.ndarray) -> float:
    """Return the mean in percent over thresholds and classes with objects; NaN without objects.

    Args:
        precisions: (classes, thresholds), fractions; NaN if no object counts.
    """
    present = precisions[~np.isnan(precisions[:, 0])]
    return 100 * float(present.mean()) if len(present) else np.nan


@compiled
def _mean_precision(recall: np.ndarray, precision: np.ndarray, count: int, recalls: np.ndarray) -> float:
    """Average interpolated precision over recalls, from the first `count` points."""
    total, best, place = 0.0, 0.0, count - 1
    for r in range(len(recalls) - 1, -1, -1):
        # From the right, so that the best precision at this or any higher recall is known.
        while place >= 0 and recall[place] >= recalls[r]:
            best = max(best, precision[place])
            place -= 1
        total += best
    return total / len(recalls)


@compiled
def _pass_class(
    images: np.ndarray,
    first: int,
    last: int,
    tied: np.ndarray,
    hits: np.ndarray,
    ignored: np.ndarray,
    objects: int,
    weights: np.ndarray,
    recall: np.ndarray,
    precision: np.ndarray,
) -> np.ndarray:
    """Accumulate the detections of a class, `first` to `last`; see `precision_sums`.

    Returns:
        Number of points written to `recall` and `precision`, (thresholds,).
    """
    thresholds = len(recall)
    right = np.zeros(thresholds, np.int64)
    # Most detections are false positives at all thresholds; exceptions are subtracted in `less`.
    wrong, less = 0, np.zeros(thresholds, np.int64)
    count = np.zeros(thresholds, np.int64)
    while first < last:
        end = first + 1
        while end < last and tied[end]:
            end += 1
        copies = weights[images[first]]
        step = copies if end == first + 1 else 1
        while copies > 0:
            for d in range(first, end):
                wrong += step
                special = hits[d] | ignored[d]
                if special == 0:
                    continue
                for t in range(thresholds):
                    bit = 1 << t
                    if not special & bit:
                        continue
                    less[t] += step
                    if ignored[d] & bit:
                        continue
                    right[t] += step
                    recall[t, count[t]] = right[t] / objects
                    precision[t, count[t]] = right[t] / (right[t] + wrong - less[t])
                    count[t] += 1
            copies -= step
        first = end
    return count


@compiled
def precision_sums(
    images: np.ndarray,
    starts: np.ndarray,
    tied: np.ndarray,
    hits: np.ndarray,
    ignored: np.ndarray,
    objects: np.ndarray,
    weights: np.ndarray,
    recalls: np.ndarray,
    thresholds: int,
) -> np.ndarray:
    """Compute mean precision over recalls for each class and threshold, as pycocotools' `accumulate`.

    An image with weight 2 counts as two copies, one after the other. The copies of a detection without
    ties are processed in one step: precision only rises over copies of a true positive, and a false
    positive never reaches a new recall. Tied detections of an image are processed once for each copy.

    Args:
        images: (D,), image of each detection, sorted by class, then by descending score.
        starts: (classes + 1,), index of the first detection of each class.
        tied: (D,), bool, whether a detection has the same image, class and score as the previous one.
        hits: (D,), uint16, bits of the thresholds at which a detection is a true positive.
        ignored: (D,), uint16, bits of the thresholds at which a detection does not count.
        objects: (classes,), number of objects that count, weighted by image.
        weights: (images,), how often each image counts.
        recalls: (R,), ascending recalls at which precision is evaluated.
        thresholds: number of thresholds.

    Returns:
        (classes, thresholds), fractions; NaN if no object counts.
    """
    classes = len(starts) - 1
    result = np.full((classes, thresholds), np.nan)
    most = 0
    for c in range(classes):
        most = max(most, objects[c])
    # There are at most as many true positives as objects.
    recall = np.empty((thresholds, most))
    precision = np.empty((thresholds, most))
    for c in range(classes):
        if objects[c] == 0:
            continue
        first, end = starts[c], starts[c + 1]
        counts = _pass_class(
            images, first, end, tied, hits, ignored, objects[c], weights, recall, precision
        )
        for t in range(thresholds):
            result[c, t] = _mean_precision(recall[t], precision[t], counts[t], recalls)
    return result


def ranked(
    label: np.ndarray, score: np.ndarray, image: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sort detections for `precision_sums`.

    Args:
        label: (D,), class of each detection.
        score: (D,), score of each detection.
        image: (D,), image of each detection, ascending within a class.
        classes: number of classes.

    Returns:
        Sorting indices (D,), `starts` (classes + 1,) and `tied` (D,).
    """
    order = np.lexsort((-score, label))
    starts = np.searchsorted(label[order], np.arange(classes + 1))
    tied = np.zeros(len(order), np.bool_)
    columns = [column[order] for column in (label, score, image)]
    tied[1:] = np.all([column[1:] == column[:-1] for column in columns], axis=0)
    return order, starts, tied
