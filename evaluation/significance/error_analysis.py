"""What each kind of error costs a detector in AP (Bolya et al., TIDE, arXiv 2008.08115)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from evaluation.average_precision.matching import AREAS
from evaluation.average_precision.resampled import mean_of_present, precisions_by_class
from evaluation.evidence.detection_errors import ERRORS
from evaluation.evidence.instances import InstanceEvidence
from evaluation.significance.metrics import Metric

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
        image: (N,), of each detection that counts.
        label: (N,), its class.
        score: (N,).
        right: (N,), bool.
        counted: (G,), bool, whether an object counts.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    right: np.ndarray
    counted: np.ndarray


def error_costs(evidence: InstanceEvidence, kind: str) -> Metric:
    """By how many points AP at an overlap of 0.5 would rise if one kind of error were mended.

    A detection of wrong class or bad localisation is mended by making it right, if its object counts, is
    not found otherwise and no better one is mended to it, else by leaving it out; one of another error
    by leaving it out. A missed object, which no detection meets even with such an error, is mended by
    not counting it; a class of which no object counts any more is left out of the mean. What is mended
    alone does not add up to what all together would bring.

    Args:
        evidence: of an evaluation.
        kind: of overlap, `box` or `mask`.

    Returns:
        A function of how often each image counts, with the points of each of `CATEGORIES`.
    """
    present = _as_they_are(evidence, kind)
    variants = {name: _mended(evidence, kind, present, name) for name in CATEGORIES}
    whole = _ap50(evidence, present)
    mended = {name: _ap50(evidence, variant) for name, variant in variants.items()}

    def evaluate(weights: np.ndarray) -> dict[str, float]:
        base = whole(weights)
        return {name: each(weights) - base for name, each in mended.items()}

    return evaluate


def error_counts(evidence: InstanceEvidence, kind: str) -> dict[str, int]:
    """How many detections have each error at an overlap of 0.5, and how many objects are missed."""
    counts = np.bincount(evidence.matches[kind].errors, minlength=len(ERRORS))
    found = {name: int(counts[ERRORS.index(name)]) for name in CATEGORIES[:5]}
    return found | {'missed': int(missed_objects(evidence, kind).sum())}


def missed_objects(evidence: InstanceEvidence, kind: str) -> np.ndarray:
    """Which objects count and are met by no detection, not even by one to be mended, (G,)."""
    matches = evidence.matches[kind]
    meets = np.isin(matches.errors, [ERRORS.index(name) for name in ('right', *_FIXED)])
    met = np.zeros(len(evidence.object_image), bool)
    met[matches.targets[meets]] = True
    return _counted(evidence) & ~met


def _counted(evidence: InstanceEvidence) -> np.ndarray:
    return evidence.object_counts[:, AREAS.index('all')]


def _as_they_are(evidence: InstanceEvidence, kind: str) -> _Detections:
    errors = evidence.matches[kind].errors
    kept = errors != ERRORS.index('ignored')
    return _Detections(
        image=evidence.detection_image[kept],
        label=evidence.detection_class[kept],
        score=evidence.detection_score[kept],
        right=errors[kept] == ERRORS.index('right'),
        counted=_counted(evidence),
    )


def _mended(evidence: InstanceEvidence, kind: str, present: _Detections, name: str) -> _Detections:
    """The detections after one kind of error is mended."""
    matches = evidence.matches[kind]
    kept = matches.errors != ERRORS.index('ignored')
    errors, targets = matches.errors[kept], matches.targets[kept]
    right_targets = targets[present.right]
    if name == 'missed':
        return replace(present, counted=present.counted & ~missed_objects(evidence, kind))
    if name == 'false negatives':
        found = np.zeros(len(present.counted), bool)
        found[right_targets] = True
        return replace(present, counted=present.counted & found)
    if name == 'false positives':
        return _chosen(present, present.right)
    wrong = errors == ERRORS.index(name)
    if name not in _FIXED:
        return _chosen(present, ~wrong)
    taken = np.zeros(len(present.counted), bool)
    taken[right_targets] = True
    places = np.flatnonzero(wrong)
    places = places[np.argsort(-present.score[places], kind='stable')]
    places = places[(present.counted & ~taken)[targets[places]]]
    # Of those that meet the same object the one of the highest score.
    _, first = np.unique(targets[places], return_index=True)
    mended = places[first]
    label, right = present.label.copy(), present.right.copy()
    label[mended] = evidence.object_class[targets[mended]]
    right[mended] = True
    kept_now = ~wrong
    kept_now[mended] = True
    return _chosen(replace(present, label=label, right=right), kept_now)


def _chosen(present: _Detections, kept: np.ndarray) -> _Detections:
    columns = {name: getattr(present, name)[kept] for name in ('image', 'label', 'score', 'right')}
    return replace(present, **columns)


def _ap50(evidence: InstanceEvidence, present: _Detections) -> Callable[[np.ndarray], float]:
    """AP at an overlap of 0.5 in percent, as a function of how often each image counts."""
    hits = present.right.astype(np.uint16)
    by_class = precisions_by_class(
        (present.label, present.score, present.image),
        hits,
        np.zeros_like(hits),
        (evidence.object_class[present.counted], evidence.object_image[present.counted]),
        len(evidence.classes),
        thresholds=1,
    )
    return lambda weights: mean_of_present(by_class(weights))
