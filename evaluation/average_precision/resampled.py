"""Average precision from matches, with images counted any number of times."""

import numpy as np

from evaluation.compiled import compiled


@compiled
def precision_sums(
    order_image: np.ndarray,
    starts: np.ndarray,
    hits: np.ndarray,
    ignored: np.ndarray,
    objects: np.ndarray,
    weights: np.ndarray,
    recalls: np.ndarray,
    thresholds: int,
) -> np.ndarray:
    """Mean precision over recalls of each class and threshold (pycocotools' `accumulate`).

    An image that counts twice is one whose detections are there twice, one after another: true
    positives are passed in one step, since precision only rises on the way, and false ones are not
    where a recall is reached first.

    Args:
        order_image: (D,), image of each detection; by class, within it by falling score.
        starts: (classes + 1,), where the detections of each class begin.
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
    longest = 0
    for c in range(classes):
        longest = max(longest, starts[c + 1] - starts[c])
    recall = np.empty(longest)
    precision = np.empty(longest)
    for c in range(classes):
        if objects[c] == 0:
            continue
        for t in range(thresholds):
            bit = 1 << t
            right, wrong, count = 0, 0, 0
            for d in range(starts[c], starts[c + 1]):
                weight = weights[order_image[d]]
                if weight == 0 or ignored[d] & bit:
                    continue
                if hits[d] & bit:
                    right += weight
                    recall[count] = right / objects[c]
                    precision[count] = right / (right + wrong)
                    count += 1
                else:
                    wrong += weight
            total, best, place = 0.0, 0.0, count - 1
            for r in range(len(recalls) - 1, -1, -1):
                # From the right, so that the best precision at this recall or a higher one is known.
                while place >= 0 and recall[place] >= recalls[r]:
                    best = max(best, precision[place])
                    place -= 1
                total += best
            result[c, t] = total / len(recalls)
    return result
