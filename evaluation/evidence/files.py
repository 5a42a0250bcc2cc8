"""Evidence as a file beside its `result.json`: arrays of numbers, in NumPy's compressed format."""

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from evaluation.average_precision.detections import KINDS
from evaluation.average_precision.matching import AREAS
from evaluation.errors import UserError
from evaluation.evidence.classification import ClassificationEvidence
from evaluation.evidence.detection_errors import ERRORS
from evaluation.evidence.instances import InstanceEvidence, Matches
from evaluation.evidence.segmentation import SegmentationEvidence
from evaluation.files import write_bytes

Evidence = InstanceEvidence | SegmentationEvidence | ClassificationEvidence
FILE = 'evidence.npz'
EVIDENCE_OF = {
    'mask_rcnn': InstanceEvidence,
    'upernet': SegmentationEvidence,
    'imagenet': ClassificationEvidence,
}
# Unpacked, ten times what a detector leaves on a data set of the size of COCO val2017.
MOST_BYTES = 1 << 30
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


def write_evidence(file: Path, evidence: Evidence) -> None:
    """Write evidence; a reader never sees half of it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **_arrays(evidence))
    write_bytes(file, buffer.getvalue())


def read_evidence(file: Path, task: str) -> Evidence:
    """Read the evidence of an evaluation.

    Args:
        file: that was written with it.
        task: `mask_rcnn`, `upernet` or `imagenet`.

    Raises:
        UserError: the file cannot be read, is not of this task, or is not whole.
    """
    try:
        evidence = _evidence(_read_arrays(file), EVIDENCE_OF[task])
        _check(evidence)
    except OSError as error:
        raise UserError(f'{file}: cannot be read ({error.strerror or error})') from error
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        reason = f'{error.args[0]} is missing' if isinstance(error, KeyError) else error
        raise UserError(
            f'{file}: no evidence of a {task} evaluation ({reason}); evaluate the checkpoint again'
        ) from error
    return evidence


def _arrays(evidence: Evidence) -> dict[str, np.ndarray]:
    """All arrays of some evidence, by name."""
    arrays = {}
    for field in fields(evidence):
        value = getattr(evidence, field.name)
        if field.name == 'matches':
            for kind, matches in value.items():
                for part in fields(Matches):
                    arrays[f'{kind}_{part.name}'] = getattr(matches, part.name)
        else:
            arrays[field.name] = np.array(value) if isinstance(value, tuple) else value
    return arrays


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f'{size} bytes when unpacked, where {MOST_BYTES} are the most')
        for member in archive.infolist():
            _check_size(archive, member)
    # Without pickles, arrays are numbers and text.
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """See that an array is not larger than what is there of it, before memory is taken for it.

    Raises:
        ValueError: it is.
    """
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f'{member.filename} is of version {version} of the format')
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f'{member.filename} is cut short')


def _evidence(arrays: Mapping[str, np.ndarray], kind: type[Evidence]) -> Evidence:
    values = {}
    for field in fields(kind):
        if field.name == 'matches':
            values['matches'] = {
                name: Matches(**{part.name: arrays[f'{name}_{part.name}'] for part in fields(Matches)})
                for name in KINDS.values()
            }
        elif field.name == 'classes':
            values['classes'] = tuple(arrays['classes'].tolist())
        else:
            values[field.name] = arrays[field.name]
    return kind(**values)


def _check(evidence: Evidence) -> None:
    """See that every array is what it should be, since compiled code will not.

    Raises:
        ValueError: one is not.
    """
    arrays = _arrays(evidence)
    for name, array in arrays.items():
        wanted = _KINDS.get(name, 'iu')
        if array.dtype.kind not in wanted:
            raise ValueError(f'{name} holds {array.dtype}')
        if array.ndim != (2 if name.endswith(('_hits', '_ignored', '_counts')) else 1):
            raise ValueError(f'{name} has {array.ndim} axes')
        if array.ndim == 2 and array.shape[1] != len(AREAS):
            raise ValueError(f'{name} has {array.shape[1]} ranges of areas')
        _check_places(name, array, arrays)
    _check_lengths(evidence, arrays)
    if len(np.unique(arrays['images'])) != len(arrays['images']):
        raise ValueError('an image occurs twice')


def _check_places(name: str, array: np.ndarray, arrays: Mapping[str, np.ndarray]) -> None:
    if name.endswith('_targets'):
        low, high = -1, len(arrays['object_image'])
    elif name.endswith('_errors'):
        low, high = 0, len(ERRORS)
    elif name in _PLACES:
        low, high = 0, len(arrays[_PLACES[name]])
    elif name in ('label', 'predicted'):
        # One more stands for pixels of no class.
        low, high = 0, len(arrays['classes']) + ('pixels' in arrays)
    elif name in ('pixels', 'place'):
        low, high = 0, np.inf
    else:
        return
    if array.size and not (low <= array.min() and array.max() < high):
        raise ValueError(f'{name} is out of range')


def _check_lengths(evidence: Evidence, arrays: Mapping[str, np.ndarray]) -> None:
    if isinstance(evidence, InstanceEvidence):
        if np.any(np.diff(evidence.detection_class) < 0):
            raise ValueError('detections are not put by class')
        groups = {
            'detection_image': [
                n for n in arrays if n.startswith('detection') or n.startswith(tuple(KINDS.values()))
            ],
            'object_image': [n for n in arrays if n.startswith('object')],
        }
    elif isinstance(evidence, SegmentationEvidence):
        groups = {'image': ['label', 'predicted', 'pixels']}
    else:
        groups = {'images': ['label', 'predicted', 'place']}
    for first, others in groups.items():
        for name in others:
            if len(arrays[name]) != len(arrays[first]):
                raise ValueError(f'{name} and {first} are of unequal lengths')
