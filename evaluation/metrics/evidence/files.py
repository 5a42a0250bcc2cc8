"""Evidence as a file beside its `result.json`: arrays of numbers, in NumPy's compressed format."""

import io
import math
import struct
import sys
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from evaluation.metrics.evidence.base import Evidence
from evaluation.metrics.evidence.checks import check_arrays
from evaluation.tasks import TASKS
from evaluation.utils.errors import UserError
from evaluation.utils.files import write_bytes

FILE = 'evidence.npz'
# Unpacked, ten times what a detector leaves on a data set of the size of COCO val2017.
MOST_BYTES = 1 << 30
# What NumPy and zipfile raise of files that are damaged in whatever way.
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


def write_evidence(file: Path, evidence: Evidence) -> None:
    """Write evidence; a reader never sees half of it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **evidence.arrays())
    write_bytes(file, buffer.getvalue())


def read_evidence(file: Path, task: str) -> Evidence:
    """Read the evidence of an evaluation.

    Args:
        file: that was written with it.
        task: key of its task.

    Raises:
        UserError: the file cannot be read, is not of this task, or is not whole.
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
            f'{file}: no evidence of {task} ({" ".join(str(reason).split())}); '
            'evaluate the checkpoint again'
        ) from error
    return evidence


def _read_arrays(file: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f'{size} bytes when unpacked, where {MOST_BYTES} are the most')
        for member in archive.infolist():
            _check_size(archive, member)
    # Without pickles, arrays are numbers and text.
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, array in arrays.items():
        if array.dtype.kind == 'U' and not _is_text(array):
            raise ValueError(f'{name!r} holds no text')
    return arrays


def _is_text(array: np.ndarray) -> bool:
    """Whether all letters are letters, without which an array of text cannot be read."""
    letters = np.frombuffer(array.tobytes() or bytes(4), f'{array.dtype.byteorder}u4')
    return bool(letters.max() <= sys.maxunicode)


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """See that an array is not larger than what is there of it, before memory is taken for it.

    Raises:
        ValueError: it is.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f'{member.filename!r} is not compressed as NumPy does')
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f'{member.filename!r} is of version {version} of the format')
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if math.prod(shape) * dtype.itemsize > member.file_size:
        raise ValueError(f'{member.filename!r} is cut short')
