"""The directory of a zip: whether all who read it find the same one."""

import struct
from typing import BinaryIO

from backbones.checkpoint.errors import BombError

# The record at the end, the place of its form with 64 bits, and that form: how they start, their sizes.
END, END_SIZE = b'PK\x05\x06', 22
PLACE, PLACE_SIZE = b'PK\x06\x07', 20
END_64, END_64_SIZE = b'PK\x06\x06', 56


def check_directory(content: BinaryIO, size: int) -> None:
    """Look whether the directory of a zip lies right before its end and where the end says.

    Python searches it backwards from the end, torch at the offset that is stated: where they differ,
    what was looked at is not what is read.

    Args:
        content: the file.
        size: of the file.

    Raises:
        BombError: it does not, or the end is not the last of the file.
    """
    start = max(0, size - END_SIZE - PLACE_SIZE - END_64_SIZE)
    content.seek(start)
    tail = content.read().rjust(END_SIZE + PLACE_SIZE + END_64_SIZE, b'\0')
    end_64, place, end = tail[:END_64_SIZE], tail[END_64_SIZE:-END_SIZE], tail[-END_SIZE:]
    if not end.startswith(END) or end[-2:] != b'\0\0':
        raise BombError('no directory at its end, or more after it')
    position = size - END_SIZE
    length, offset = struct.unpack('<II', end[12:20])
    if place.startswith(PLACE):
        position -= PLACE_SIZE + END_64_SIZE
        stated = struct.unpack('<Q', place[8:16])[0]
        if not end_64.startswith(END_64) or stated != position:
            raise BombError('two ends of its directory')
        length, offset = struct.unpack('<QQ', end_64[40:56])
    if offset + length != position:
        raise BombError('a directory elsewhere than it says')
