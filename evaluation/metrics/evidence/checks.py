"""Whether arrays are evidence; compiled code, which relies on it, would write outside of its own."""

from collections.abc import Mapping

import numpy as np

from evaluation.metrics.average_precision.detections import KINDS
from evaluation.metrics.average_precision.matching import AREAS, OVERLAPS
from evaluation.metrics.evidence.detection_errors import ERRORS
from evaluation.metrics.evidence.instances import InstanceEvidence, Matches

# Kinds of numbers, as NumPy abbreviates them, in each array; others hold integers.
_KINDS = {'images': 'iuU', 'classes': 'U', 'detection_score': 'f', 'object_counts': 'b'}
# What counts from 0 to the length of another array.
_PLACES = {
    'detection_image': 'images',
    'object_image': 'images',
    'image': 'images',
    'detection_class': 'classes',
    'object_class': 'classes',
}
_BITS = ('_hits', '_ignored')
_WITH_TARGET = ('right', 'classification', 'localisation')


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """See that arrays of any task have the kinds, shapes and ranges of evidence.

    Raises:
        ValueError: one has not.
    """
    for name, array in arrays.items():
        if not _has_type(name, array.dtype):
            raise ValueError(f'{name} holds {array.dtype}')
        if array.ndim != (2 if name.endswith((*_BITS, '_counts')) else 1):
            raise ValueError(f'{name} has {array.ndim} axes')
        if array.ndim == 2 and array.shape[1] != len(AREAS):
            raise ValueError(f'{name} has {array.shape[1]} ranges of areas')
        low, high = _range(name, arrays)
        if high is not None and array.size and not (low <= array.min() and array.max() < high):
            raise ValueError(f'{name} is out of range')
    _check_lengths(arrays)
    if len(np.unique(arrays['images'])) != len(arrays['images']):
        raise ValueError('an image occurs twice')


def _has_type(name: str, dtype: np.dtype) -> bool:
    """Whether an array of this type can be computed with."""
    if name.endswith(_BITS):
        return dtype == np.uint16
    is_large = dtype.kind == 'u' and not np.can_cast(dtype, np.int64)
    return dtype.kind in _KINDS.get(name, 'iu') and dtype.isnative and not is_large


def _range(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[int, float | None]:
    """Least value of an array, and what its values are less than; None where they may be any."""
    if name.endswith('_targets'):
        return -1, len(arrays['object_image'])
    if name.endswith('_errors'):
        return 0, len(ERRORS)
    if name.endswith(_BITS):
        return 0, 1 << len(OVERLAPS)
    if name in _PLACES:
        return 0, len(arrays[_PLACES[name]])
    if name in ('label', 'predicted'):
        # One more stands for pixels of no class.
        return 0, len(arrays['classes']) + ('pixels' in arrays)
    return 0, np.inf if name in ('pixels', 'place') else None


def _check_lengths(arrays: Mapping[str, np.ndarray]) -> None:
    if 'detection_image' in arrays:
        kinds = tuple(f'{kind}_' for kind in KINDS.values())
        groups = {
            'detection_image': [name for name in arrays if name.startswith(('detection', *kinds))],
            'object_image': [name for name in arrays if name.startswith('object')],
        }
    elif 'pixels' in arrays:
        groups = {'image': ['label', 'predicted', 'pixels']}
    else:
        groups = {'images': ['label', 'predicted', 'place']}
    for first, others in groups.items():
        for name in others:
            if len(arrays[name]) != len(arrays[first]):
                raise ValueError(f'{name} and {first} are of unequal lengths')


def check_matches(evidence: InstanceEvidence) -> None:
    """See that detections are put by class, and that no object is found twice.

    Raises:
        ValueError: they are not, or one is.
    """
    if np.any(np.diff(evidence.detection_class.astype(np.int64)) < 0):
        raise ValueError('detections are not put by class')
    for kind, matches in evidence.matches.items():
        _check_errors(evidence, kind, matches)
        _check_hits(evidence, kind, matches)


def _check_errors(evidence: InstanceEvidence, kind: str, matches: Matches) -> None:
    """See that errors agree with hits, and that targets are what they say."""
    first = (matches.hits & ~matches.ignored)[:, AREAS.index('all')] & 1
    right = matches.errors == ERRORS.index('right')
    if np.any(right != first.astype(bool)):
        raise ValueError(f'{kind}_errors and {kind}_hits do not agree')
    meets = np.isin(
        matches.errors, [ERRORS.index(e) for e in ('right', 'classification', 'localisation')]
    )
    targets = matches.targets[meets]
    if np.any(targets < 0) or np.any(evidence.object_image[targets] != evidence.detection_image[meets]):
        raise ValueError(f'{kind}_targets are not in the image of the detection')
    found = matches.targets[right]
    is_own = evidence.object_class[found] == evidence.detection_class[right]
    counts = evidence.object_counts[found, AREAS.index('all')]
    if not np.all(is_own & counts) or len(np.unique(found)) < len(found):
        raise ValueError(f'{kind}_targets are not objects that can be found, each once')


def _check_hits(evidence: InstanceEvidence, kind: str, matches: Matches) -> None:
    """See that of each class in each image no more objects are found than count."""
    classes = len(evidence.classes)
    pairs = np.concatenate(
        [
            evidence.object_image.astype(np.int64) * classes + evidence.object_class,
            evidence.detection_image.astype(np.int64) * classes + evidence.detection_class,
        ]
    )
    known, places = np.unique(pairs, return_inverse=True)
    objects, detections = np.split(places, [len(evidence.object_image)])
    right = matches.hits & ~matches.ignored
    for area in range(len(AREAS)):
        most = np.bincount(objects[evidence.object_counts[:, area]], minlength=len(known))
        for threshold in range(len(OVERLAPS)):
            hits = (right[:, area] >> threshold & 1).astype(bool)
            if np.any(np.bincount(detections[hits], minlength=len(known)) > most):
                raise ValueError(f'{kind}_hits are more than there are objects')
