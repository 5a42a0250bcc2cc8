"""The categories of a detector's errors (Bolya et al., TIDE, arXiv 2008.08115, section 2.2)."""

from collections.abc import Sequence

import numpy as np

# Of a detection at an overlap of 0.5; the first two are no errors.
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
    ignored: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Say of each detection of an image what is wrong with it.

    With the largest overlap s with an object of its own class and o with one of another class, a wrong
    detection is: of bad localisation where 0.1 <= s < 0.5; else of wrong class where o >= 0.5; else a
    duplicate where s >= 0.5, for then a better one has taken the object; else of the background where
    both are at most 0.1; else both of wrong class and of bad localisation.

    Args:
        overlaps: (D, G), with the objects that are no crowds.
        detected: (D,), classes.
        present: (G,), classes.
        right: (D,), bool, whether it matches an object at an overlap of 0.5.
        ignored: (D,), bool, whether it does not count there.

    Returns:
        Place in `ERRORS`, (D,), and the object that the detection would match if its class or its
        localisation were right, (D,), -1 where it has another error or none.
    """
    detected, present = np.asarray(detected), np.asarray(present)
    # A column for no object, so that there is always one.
    overlaps = np.concatenate([overlaps, np.zeros((len(overlaps), 1))], axis=1)
    same = detected[:, None] == np.append(present, -1)
    own, others = np.where(same, overlaps, 0.0), np.where(same, 0.0, overlaps)
    own_best, other_best = own.max(1), others.max(1)
    is_error = {
        'ignored': ignored,
        'right': right,
        'localisation': (own_best >= BACKGROUND) & (own_best < FOREGROUND),
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
