"""Average precision from matches, with images counted any number of times."""

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
    """Mean precision over recalls of each class and threshold, as a function of how often images count.

    Args:
        detections: class, score and image of each, (D,) each, images ascending within a class.
        hits: (D,), uint16, bits of the thresholds at which a detection is a true positive.
        ignored: (D,), uint16, bits of those at which it does not count.
        objects: class and image of each that counts, (G,) each.
        classes: how many there are.
        thresholds: how many.

    Returns:
        From (images,), int64, to (classes, thresholds), fractions; NaN where no object counts.
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
    """Mean in percent over thresholds and the classes of which there are objects; NaN without any.

    Args:
        precisions: (classes, thresholds), fractions, NaN where no object counts.
    """
    present = precisions[~np.isnan(precisions[:, 0])]
    return 100 * float(present.mean()) if len(present) else np.nan


@compiled
def _mean_precision(recall: np.ndarray, precision: np.ndarray, count: int, recalls: np.ndarray) -> float:
    """Mean over recalls of the best precision at each or a higher one, of the first `count` points."""
    total, best, place = 0.0, 0.0, count - 1
    for r in range(len(recalls) - 1, -1, -1):
        # From the right, so that the best precision at this recall or a higher one is known.
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
    """Pass the detections of a class, `first` to `last`; see `precision_sums`.

    Returns:
        How many points of `recall` and `precision`, (thresholds, most), were written, (thresholds,).
    """
    thresholds = len(recall)
    right = np.zeros(thresholds, np.int64)
    # Most detections are false at every threshold; what differs from that is counted apart.
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
    """Mean precision over recalls of each class and threshold (pycocotools' `accumulate`).

    An image that counts twice is one that is there twice, one copy after the other. A detection without
    ties is passed in one step: precision only rises over the copies of a true positive, and no recall is
    first reached at a false one. Tied ones of an image are passed as often as it is there.

    Args:
        images: (D,), image of each detection; by class, within it by falling score.
        starts: (classes + 1,), where the detections of each class begin.
        tied: (D,), bool, whether a detection has image, class and score of the one before it.
        hits: (D,), uint16, bits of the thresholds at which a detection is a true positive.
        ignored: (D,), uint16, bits of those at which it does not count.
        objects: (classes,), how many objects count, images as often as they do.
        weights: (images,), how often each counts.
        recalls: (R,), ascending, where precision is taken.
        thresholds: how many.

    Returns:
        (classes, thresholds), fractions; NaN where no object counts.
    """
    classes = len(starts) - 1
    result = np.full((classes, thresholds), np.nan)
    most = 0
    for c in range(classes):
        most = max(most, objects[c])
    # There are not more true positives than objects.
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
    """Order detections as `precision_sums` takes them.

    Args:
        label: (D,), classes.
        score: (D,).
        image: (D,), ascending within a class.
        classes: how many there are.

    Returns:
        the order (D,), `starts` (classes + 1,) and `tied` (D,).
    """
    order = np.lexsort((-score, label))
    starts = np.searchsorted(label[order], np.arange(classes + 1))
    tied = np.zeros(len(order), np.bool_)
    columns = [column[order] for column in (label, score, image)]
    tied[1:] = np.all([column[1:] == column[:-1] for column in columns], axis=0)
    return order, starts, tied
