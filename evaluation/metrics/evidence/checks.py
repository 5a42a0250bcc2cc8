"""Validate the arrays of per-image records; the compiled code does no bounds checks."""

from collections.abc import Mapping, Sequence

import numpy as np

from evaluation.metrics.average_precision.matching import AREAS, OVERLAPS
from evaluation.metrics.evidence.detection_errors import ERRORS

# Kinds of numbers, as NumPy abbreviates them, in each array; others hold integers.
_KINDS = {'images': 'iuU', 'classes': 'U', 'detection_score': 'f', 'object_counts': 'b'}
# Index arrays and the arrays they index.
_PLACES = {
    'detection_image': 'images',
    'object_image': 'images',
    'image': 'images',
    'detection_class': 'classes',
    'object_class': 'classes',
}
_BITS = ('_hits', '_ignored')


def check_arrays(arrays: Mapping[str, np.ndarray], tables: Mapping[str, Sequence[str]]) -> None:
    """Check that arrays of any task have the kinds, shapes and ranges of evidence.

    Args:
        arrays: by name.
        tables: which of them are of equal lengths, as `Evidence.tables` states it.

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
    _check_lengths(arrays, tables)
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
        # One more stands for pixels of no class, and for guesses of a class that the data set has not.
        return 0, len(arrays['classes']) + ('pixels' in arrays or name == 'predicted')
    return 0, np.inf if name in ('pixels', 'place') else None


def _check_lengths(arrays: Mapping[str, np.ndarray], tables: Mapping[str, Sequence[str]]) -> None:
    for first, others in tables.items():
        for name in others:
            if len(arrays[name]) != len(arrays[first]):
                raise ValueError(f'{name} and {first} are of unequal lengths')
