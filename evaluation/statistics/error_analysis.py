"""Cost of each type of detection error in AP (Bolya et al., TIDE, arXiv 2008.08115)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.metrics.coco_matching import AREAS
from evaluation.metrics.instance_records import ERRORS, InstanceEvidence
from evaluation.metrics.records import Measure
from evaluation.metrics.resampled_precision import precisions_by_class

# In the order of the paper; the last two are the costs of all false positives and all misses.
CATEGORIES = (
    'classification',
    'localisation',
    'both',
    'duplicate',
    'background',
    'missed',
    'false positives',
    'false negatives',
)
_FIXED = ('classification', 'localisation')


@dataclass(frozen=True)
class _Detections:
    """Inputs of AP at an overlap of 0.5.

    Attributes:
        label: (D,), class of each detection.
        kept: (D,), bool, whether a detection counts.
        right: (D,), bool, whether a detection is a true positive.
        counted: (G,), bool, whether an object counts.
    """

    label: np.ndarray
    kept: np.ndarray
    right: np.ndarray
    counted: np.ndarray


def error_costs(evidence: InstanceEvidence, kind: str) -> Measure:
    """Compute how many points of AP50 are gained by fixing one type of error (TIDE, section 2.3).

    A classification or localization error is fixed by correcting the detection, unless its object is
    already found or a detection with a higher score has one of these errors with the same object.
    Otherwise, and for other errors of detections, the detection is removed. A missed object has no
    detection, not even one with these two errors; it is fixed by not counting it. Costs are never
    negative. They do not add up to the gain of fixing all errors.

    The mean is over classes with objects, as in AP50. A class that loses its last object by a fix has an
    AP of 0 if it still has detections, and is excluded otherwise.

    Args:
        evidence: per-image records.
        kind: kind of overlap, `box` or `mask`.

    Returns:
        A function from image counts to the points of each of `CATEGORIES`.
    """
    present = _as_they_are(evidence, kind)
    variants = {name: _fixed(evidence, kind, present, name) for name in CATEGORIES}
    whole = _class_precisions(evidence, present)
    fixed = {name: _class_precisions(evidence, variant) for name, variant in variants.items()}

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        present_classes = _has_objects(evidence, weights)
        before = _mean(whole(weights)[present_classes])
        after = {name: _mean(each(weights)[present_classes]) for name, each in fixed.items()}
        return {name: float(np.maximum(value - before, 0)) for name, value in after.items()}

    return evaluate


def error_counts(evidence: InstanceEvidence, kind: str) -> dict[str, int]:
    """Count the detections with each error at an overlap of 0.5, and the missed objects."""
    counts = np.bincount(evidence.matches[kind].errors, minlength=len(ERRORS))
    found = {name: int(counts[ERRORS.index(name)]) for name in CATEGORIES[:5]}
    return found | {'missed': int(missed_objects(evidence, kind).sum())}


def missed_objects(evidence: InstanceEvidence, kind: str) -> np.ndarray:
    """Return which counted objects have no detection, not even one with a fixable error, (G,), bool."""
    return _counted(evidence) & ~_met(evidence, kind, ('right', *_FIXED))


def _met(evidence: InstanceEvidence, kind: str, errors: Sequence[str]) -> np.ndarray:
    """Return which objects are the target of a detection with one of these errors, (G,), bool."""
    matches = evidence.matches[kind]
    met = np.zeros(len(evidence.object_image), bool)
    met[matches.targets[np.isin(matches.errors, [ERRORS.index(name) for name in errors])]] = True
    return met


def _counted(evidence: InstanceEvidence) -> np.ndarray:
    return evidence.object_counts[:, AREAS.index('all')]


def _as_they_are(evidence: InstanceEvidence, kind: str) -> _Detections:
    matches = evidence.matches[kind]
    return _Detections(
        label=evidence.detection_class,
        kept=(matches.ignored[:, AREAS.index('all')] & 1) == 0,
        right=matches.errors == ERRORS.index('right'),
        counted=_counted(evidence),
    )


def _fixed(evidence: InstanceEvidence, kind: str, present: _Detections, name: str) -> _Detections:
    """Return the detections after fixing one type of error."""
    if name == 'missed':
        return replace(present, counted=present.counted & ~missed_objects(evidence, kind))
    if name == 'false negatives':
        return replace(present, counted=present.counted & _met(evidence, kind, ('right',)))
    if name == 'false positives':
        return replace(present, kept=present.right)
    matches = evidence.matches[kind]
    wrong = matches.errors == ERRORS.index(name)
    kept = present.kept & ~wrong
    if name not in _FIXED:
        return replace(present, kept=kept)
    chosen = _best_of_each_object(evidence, kind)
    chosen = chosen[wrong[chosen]]
    label, right = present.label.copy(), present.right.copy()
    label[chosen] = evidence.object_class[matches.targets[chosen]]
    right[chosen] = kept[chosen] = True
    return replace(present, label=label, right=right, kept=kept)


def _best_of_each_object(evidence: InstanceEvidence, kind: str) -> np.ndarray:
    """Return the best fixable detection of each object that is not found.

    Classification and localization errors compete, including those of detections that match a crowd,
    since an object can only be found once.
    """
    matches = evidence.matches[kind]
    places = np.flatnonzero(np.isin(matches.errors, [ERRORS.index(name) for name in _FIXED]))
    places = places[np.argsort(-evidence.detection_score[places], kind='stable')]
    free = _counted(evidence) & ~_met(evidence, kind, ('right',))
    places = places[free[matches.targets[places]]]
    _, first = np.unique(matches.targets[places], return_index=True)
    return places[first]


def _has_objects(evidence: InstanceEvidence, weights: np.ndarray) -> np.ndarray:
    """Return which classes have counted objects in these images, (classes,), bool."""
    counted = _counted(evidence)
    label, image = evidence.object_class[counted], evidence.object_image[counted]
    return np.bincount(label, weights=weights[image], minlength=len(evidence.classes)) > 0


def _mean(precisions: np.ndarray) -> float:
    """Return the mean in percent over classes that are not NaN; NaN if all are."""
    shown = precisions[~np.isnan(precisions)]
    return 100 * float(shown.mean()) if len(shown) else np.nan


def _class_precisions(
    evidence: InstanceEvidence, variant: _Detections
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that computes AP of each class at an overlap of 0.5.

    Returns:
        A function from image counts, (images,), int64, to fractions, (classes,); a class without objects
        gets 0 if it has detections, and NaN otherwise.
    """
    label, image = variant.label[variant.kept], evidence.detection_image[variant.kept]
    hits = variant.right[variant.kept].astype(np.uint16)
    classes = len(evidence.classes)
    by_class = precisions_by_class(
        (label, evidence.detection_score[variant.kept], image),
        hits,
        np.zeros_like(hits),
        (evidence.object_class[variant.counted], evidence.object_image[variant.counted]),
        classes,
        thresholds=1,
    )

    def evaluate(weights: np.ndarray) -> np.ndarray:
        found = by_class(weights)[:, 0]
        detections = np.bincount(label, weights=weights[image], minlength=classes)
        return np.where(np.isnan(found) & (detections > 0), 0.0, found)

    return evaluate
