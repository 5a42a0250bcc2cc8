"""Evidence files next to `result.json`: arrays in NumPy's compressed format.

Arrays are validated when read, since the compiled code does no bounds checks.
"""

import io
import math
import struct
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evaluation.metrics.calibration import BINS
from evaluation.metrics.coco_matching import AREAS, OVERLAPS
from evaluation.metrics.instance_records import ERRORS
from evaluation.metrics.records import Evidence
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes

FILE = 'evidence.npz'
# Uncompressed size; ten times what a detector produces on COCO val2017.
MOST_BYTES = 1 << 30
# Exceptions that NumPy and zipfile raise for corrupt files.
DAMAGED = (
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    NotImplementedError,
    SyntaxError,
    EOFError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
# NumPy type codes allowed in each array; other arrays hold integers.
_KINDS = {
    'images': 'iuU',
    'classes': 'U',
    'detection_score': 'f',
    'box_overlaps': 'f',
    'mask_overlaps': 'f',
    'confidence': 'f',
    'bin_confidence': 'f',
    'object_counts': 'b',
}
# Index arrays and the arrays they index.
_PLACES = {
    'detection_image': 'images',
    'object_image': 'images',
    'image': 'images',
    'detection_class': 'classes',
    'object_class': 'classes',
}
_BITS = ('_hits', '_ignored')
_BY_BIN = ('bin_pixels', 'bin_right', 'bin_confidence')


def write_evidence(file: Path, evidence: Evidence) -> None:
    """Write evidence atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **evidence.arrays())
    write_bytes(file, buffer.getvalue())


def read_evidence(file: Path, task: str) -> Evidence:
    """Read the per-image records of an evaluation.

    Args:
        file: path of the records.
        task: key of the task.

    Raises:
        UserError: the file cannot be read, is corrupt, or belongs to a different task.
    """
    try:
        evidence = TASKS[task].record_type.from_arrays(_read_arrays(file))
        check_arrays(evidence.arrays(), evidence.tables())
        evidence.check()
    except OSError as error:
        raise UserError(f'{file}: cannot be read ({error.strerror or error})') from error
    except DAMAGED as error:
        reason = f'{error.args[0]} is missing' if isinstance(error, KeyError) else error
        raise UserError(
            f'{file}: not valid records of {task} ({" ".join(str(reason).split())}); '
            'evaluate the checkpoint again'
        ) from error
    return evidence


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f'{size} bytes when unpacked, more than the limit of {MOST_BYTES}')
        for member in archive.infolist():
            _check_size(archive, member)
    # Without pickles, arrays can only hold numbers and text.
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, array in arrays.items():
        if array.dtype.kind == 'U' and not _is_text(array):
            raise ValueError(f'{name!r} does not hold valid text')
    return arrays


def _is_text(array: np.ndarray) -> bool:
    """Return whether all characters of a text array are valid, so that it can be read."""
    letters = np.frombuffer(array.tobytes() or bytes(4), f'{array.dtype.byteorder}u4')
    return bool(letters.max() <= sys.maxunicode)


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Check that an array is not larger than its data, before memory is allocated for it.

    Raises:
        ValueError: the array is truncated, or its format is not supported.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f'{member.filename!r} uses a different compression than NumPy')
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f'{member.filename!r} has unsupported format version {version}')
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f'{member.filename!r} is truncated')


def check_arrays(arrays: Mapping[str, np.ndarray], tables: Mapping[str, Sequence[str]]) -> None:
    """Check types, shapes and ranges of evidence arrays, for any task.

    Args:
        arrays: arrays by name.
        tables: names of arrays that must have the same length; see `Evidence.tables`.

    Raises:
        ValueError: an array is invalid.
    """
    for name, array in arrays.items():
        if not _has_type(name, array.dtype):
            raise ValueError(f'{name} has unsupported type {array.dtype}')
        if array.ndim != (2 if name.endswith((*_BITS, *_BY_BIN, '_counts')) else 1):
            raise ValueError(f'{name} has {array.ndim} axes')
        columns = (BINS, 'bins') if name in _BY_BIN else (len(AREAS), 'area ranges')
        if array.ndim == 2 and array.shape[1] != columns[0]:
            raise ValueError(f'{name} has {array.shape[1]} {columns[1]}')
        low, high = _range(name, arrays)
        if high is not None and array.size and not (low <= array.min() and array.max() < high):
            raise ValueError(f'{name} is out of range')
    _check_lengths(arrays, tables)
    if len(np.unique(arrays['images'])) != len(arrays['images']):
        raise ValueError('an image occurs twice')


def _has_type(name: str, dtype: np.dtype) -> bool:
    """Return whether an array may have this type."""
    if name.endswith(_BITS):
        return dtype == np.uint16
    is_large = dtype.kind == 'u' and not np.can_cast(dtype, np.int64)
    return dtype.kind in _KINDS.get(name, 'iu') and dtype.isnative and not is_large


def _range(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[int, float | None]:
    """Return the minimum value of an array and its exclusive upper bound; None without a bound."""
    if name.endswith('_targets'):
        return -1, len(arrays['object_image'])
    if name.endswith('_errors'):
        return 0, len(ERRORS)
    if name.endswith(_BITS):
        return 0, 1 << len(OVERLAPS)
    if name in _PLACES:
        return 0, len(arrays[_PLACES[name]])
    if name in ('label', 'predicted'):
        # One more value stands for pixels without a class and for predictions of unknown classes.
        return 0, len(arrays['classes']) + ('pixels' in arrays or name == 'predicted')
    if name.endswith('_overlaps'):
        # The upper bound is exclusive, and an overlap can be 1.
        return 0, np.nextafter(np.float32(1), np.float32(2))
    return 0, np.inf if name in ('pixels', 'place', 'confidence', *_BY_BIN) else None


def _check_lengths(arrays: Mapping[str, np.ndarray], tables: Mapping[str, Sequence[str]]) -> None:
    for first, others in tables.items():
        for name in others:
            if len(arrays[name]) != len(arrays[first]):
                raise ValueError(f'{name} and {first} have different lengths')
