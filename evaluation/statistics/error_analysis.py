"""What each kind of error costs a detector in AP (Bolya et al., TIDE, arXiv 2008.08115)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.metrics.coco_matching import AREAS
from evaluation.metrics.instance_records import ERRORS, InstanceEvidence
from evaluation.metrics.records import Measure
from evaluation.metrics.resampled_precision import precisions_by_class

# In the order of the paper; the last two say what all false positives and all misses cost together.
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
    """What AP at an overlap of 0.5 depends on.

    Attributes:
        label: (D,), class of each detection.
        kept: (D,), bool, whether it counts.
        right: (D,), bool.
        counted: (G,), bool, whether an object counts.
    """

    label: np.ndarray
    kept: np.ndarray
    right: np.ndarray
    counted: np.ndarray


def error_costs(evidence: InstanceEvidence, kind: str) -> Measure:
    """Compute by how many points AP50 would rise if one kind of error were fixed (TIDE, section 2.3).

    A classification or localisation error is fixed by making the detection right, if its object is not
    found otherwise and no better detection has one of these two errors with the same object. Otherwise,
    and for the other errors of detections, the detection is left out. A missed object, which no
    detection meets even with one of these two errors, is fixed by not counting it. No cost is negative.
    The costs do not add up to what fixing all errors would bring.

    The mean is over the classes that have objects, as in AP50. A class that loses its last object by a
    fix has an AP of 0 if it still has detections, and is left out otherwise.

    Args:
        evidence: of an evaluation.
        kind: of overlap, `box` or `mask`.

    Returns:
        A function of how often each image counts, with the points of each of `CATEGORIES`.
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
    """How many detections have each error at an overlap of 0.5, and how many objects are missed."""
    counts = np.bincount(evidence.matches[kind].errors, minlength=len(ERRORS))
    found = {name: int(counts[ERRORS.index(name)]) for name in CATEGORIES[:5]}
    return found | {'missed': int(missed_objects(evidence, kind).sum())}


def missed_objects(evidence: InstanceEvidence, kind: str) -> np.ndarray:
    """Which objects count and are met by no detection, not even by one to be fixed, (G,)."""
    return _counted(evidence) & ~_met(evidence, kind, ('right', *_FIXED))


def _met(evidence: InstanceEvidence, kind: str, errors: Sequence[str]) -> np.ndarray:
    """Which objects detections with one of these errors meet, (G,)."""
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
    """The detections after one kind of error is fixed."""
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
    """Of each object that is not found, the best detection that can be fixed to find it.

    Classification and localisation errors compete, detections that match a crowd included: an object
    is worth one fix.
    """
    matches = evidence.matches[kind]
    places = np.flatnonzero(np.isin(matches.errors, [ERRORS.index(name) for name in _FIXED]))
    places = places[np.argsort(-evidence.detection_score[places], kind='stable')]
    free = _counted(evidence) & ~_met(evidence, kind, ('right',))
    places = places[free[matches.targets[places]]]
    _, first = np.unique(matches.targets[places], return_index=True)
    return places[first]


def _has_objects(evidence: InstanceEvidence, weights: np.ndarray) -> np.ndarray:
    """Which classes have objects that count in these images, (classes,)."""
    counted = _counted(evidence)
    label, image = evidence.object_class[counted], evidence.object_image[counted]
    return np.bincount(label, weights=weights[image], minlength=len(evidence.classes)) > 0


def _mean(precisions: np.ndarray) -> float:
    """Mean in percent over the classes that are not left out (NaN); NaN if all are."""
    shown = precisions[~np.isnan(precisions)]
    return 100 * float(shown.mean()) if len(shown) else np.nan


def _class_precisions(
    evidence: InstanceEvidence, variant: _Detections
) -> Callable[[np.ndarray], np.ndarray]:
    """AP of each class at an overlap of 0.5, as a function of how often each image counts.

    Returns:
        From (images,), int64, to (classes,), fractions; without objects 0 if there are detections, NaN
        if there are none.
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
