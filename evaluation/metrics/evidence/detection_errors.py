"""The categories of a detector's errors (Bolya et al., TIDE, arXiv 2008.08115, section 2.2)."""

from collections.abc import Sequence

import numpy as np

# At an overlap of 0.5. The first two are no errors. Only files of older versions hold `ignored`, for
# detections that match a crowd; they now get a category too, as in TIDE.
ERRORS = (
    'right',
    'ignored',
    'classification',
    'localisation',
    'both',
    'duplicate',
    'background',
)
FOREGROUND = 0.5
BACKGROUND = 0.1


def classify_errors(
    overlaps: np.ndarray,
    detected: Sequence[int] | np.ndarray,
    present: Sequence[int] | np.ndarray,
    right: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sort the detections of an image by what is wrong with them.

    Let s be the largest overlap with an object of the detection's class, and o the largest with one of
    another class. A detection that is not right has, in this order of precedence: a localisation error
    if 0.1 <= s <= 0.5; a classification error if o >= 0.5; is a duplicate if s > 0.5, since a better
    detection has taken the object; is background if both are at most 0.1; otherwise has both errors.

    Args:
        overlaps: (D, G), with the objects that are not crowds.
        detected: (D,), classes.
        present: (G,), classes.
        right: (D,), bool, whether it matches one of these objects at an overlap of 0.5.

    Returns:
        Index into `ERRORS`, (D,), and the object that the detection would match if its class or its
        localisation were right, (D,), -1 where it has another error or none.
    """
    detected, present = np.asarray(detected), np.asarray(present)
    # A column for no object, so that there is always one.
    overlaps = np.concatenate([overlaps, np.zeros((len(overlaps), 1))], axis=1)
    same = detected[:, None] == np.append(present, -1)
    own, others = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    own_best, other_best = own.max(1), others.max(1)
    is_error = {
        'right': right,
        # Both ends included: a second detection at exactly 0.5 is not a duplicate.
        'localisation': (own_best >= BACKGROUND) & (own_best <= FOREGROUND),
        'classification': other_best >= FOREGROUND,
        'duplicate': own_best >= FOREGROUND,
        'background': np.maximum(own_best, other_best) <= BACKGROUND,
    }
    # The first that holds; `select` needs arrays of equal length.
    places = [np.full(len(overlaps), ERRORS.index(name)) for name in is_error]
    errors = np.select(list(is_error.values()), places, ERRORS.index('both'))
    targets = np.full(len(overlaps), -1)
    for name, candidates in (('localisation', own), ('classification', others)):
        chosen = errors == ERRORS.index(name)
        targets[chosen] = candidates[chosen].argmax(1)
    return errors, targets
