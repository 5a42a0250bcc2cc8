"""Checkpoints that would exhaust memory, time or the stack: found before anything of them is built.

A few bytes can stand for any number: compressed members of a zip that inflate to terabytes, lists of
lists that each hold the one before ten times, tuples in tuples a million deep, whose hash overflows the
stack and ends the process. What no training writes is refused.
"""

import pickletools
import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from backbones.checkpoint.errors import BombError
from backbones.checkpoint.pickle_calls import check_calls
from backbones.checkpoint.pickle_structure import Structure, structure_of
from backbones.checkpoint.zip_directory import check_directory

# Trainings that keep whole modules have a few dozen.
DEEPEST = 500
# Entries, each counted as often as it can be reached. Of a training of years there are a few million.
MOST_ENTRIES = 100_000_000
ZIP_START = b'PK\x03\x04'
# Pickles of the legacy format: a number, a version, the system, the content, names of storages.
LEGACY_PICKLES = 5
PICKLE = '/data.pkl'
_LOCAL_HEADER = 30


def check_bounded(file: Path) -> None:
    """Look whether reading a file that `torch.save` wrote takes what its size suggests.

    Raises:
        BombError: it would take more.
        Exception: it is not such a file; any kind, as of `torch.load`.
    """
    with open(file, 'rb') as content:
        is_zip = content.read(len(ZIP_START)) == ZIP_START
        content.seek(0)
        if is_zip:
            check_members(content, file.stat().st_size)
            return
        for _ in range(LEGACY_PICKLES):
            check_structure(structure_of(pickletools.genops(content)))


def check_members(content: BinaryIO, size: int) -> None:
    """Look at the members of a zip, which torch writes uncompressed and one after the other.

    Raises:
        BombError: one is compressed, they claim more than the file has, their directory is not the one
            that torch reads, or the pickle is none, not the only one, or a bomb.
    """
    with zipfile.ZipFile(content) as archive:
        members = archive.infolist()
    check_directory(content, size)
    packed = next((each for each in members if each.compress_type != zipfile.ZIP_STORED), None)
    if packed:
        raise BombError(
            f'compressed members such as {packed.filename}, which torch.save never writes '
            '(if you trust it, unpack it and pack it again with zip -0)'
        )
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise BombError(f'members that claim {claimed:,} bytes, in a file of {size:,}')
    # As torch does: without regard to case, and by the name as it is stored.
    pickles = [each for each in members if each.orig_filename.lower().endswith(PICKLE)]
    if len(pickles) != 1:
        raise BombError(f'{len(pickles)} members called data.pkl, where torch.save writes one')
    check_structure(structure_of(pickletools.genops(_bytes_of(content, pickles[0]))))


def check_structure(structure: Structure) -> None:
    """Look how deep and how large the content of a pickle is, and what it calls.

    Raises:
        BombError: it is deeper or larger than any training's, or a call would make it so.
        ValueError: it makes no value, as noise may.
    """
    if structure.left < 0:
        raise ValueError('the pickle ends without a value')
    if structure.depth > DEEPEST:
        raise BombError(f'containers nested {structure.depth:,} deep')
    if structure.entries > MOST_ENTRIES:
        raise BombError(f'more than {MOST_ENTRIES:,} entries, by repetition of the same ones')
    if structure.left:
        raise BombError(f'{structure.left:,} values beside its content')
    check_calls(structure)


def _bytes_of(content: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """The bytes of an uncompressed member; its checksum, which torch may leave out, is not compared."""
    content.seek(member.header_offset)
    name, extra = struct.unpack('<HH', content.read(_LOCAL_HEADER)[-4:])
    content.seek(name + extra, 1)
    return content.read(member.file_size)
