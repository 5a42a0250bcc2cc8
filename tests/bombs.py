"""Checkpoints of a few kilobytes that would exhaust memory, time or the stack."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

DEEP = 100_000


def laughs(levels: int = 40) -> bytes:
    """A pickle of lists that each hold the one before ten times."""
    value: list = []
    for _ in range(levels):
        value = [value] * 10
    return pickle.dumps(value, 2)


def laughs_filled_later(levels: int = 40) -> bytes:
    """The same, but every list gets its entries after it was put into others."""
    code = [b'\x80\x02']
    for number in range(levels):
        code.append(b']q' + bytes([number]))
    for number in range(levels - 1):
        code.append(b'h' + bytes([number]) + b'(' + (b'h' + bytes([number + 1])) * 10 + b'e')
    code.append(b'(h\x00t.')
    return b''.join(code)


class Allocated:
    """Pickles as a call that makes so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __reduce__(self) -> tuple:
        return bytearray, (self.size,)


# A dict whose key is a tuple in a tuple: to build it is to compute the key's hash.
DEEP_KEY = b'\x80\x02}' + b')' + b'\x85' * DEEP + b'Ns.'
PICKLES: dict[str, Callable[[], bytes]] = {
    'lists in lists': lambda: b'\x80\x02' + b']' * DEEP + b'a' * (DEEP - 1) + b'.',
    'a key of tuples in tuples': lambda: DEEP_KEY,
    'lists that repeat': laughs,
    'lists that repeat, filled later': laughs_filled_later,
    'a bytearray of a terabyte': lambda: pickle.dumps(Allocated(10**12), 2),
    'a bytearray of a gigabyte': lambda: pickle.dumps(Allocated(10**9), 2),
}


def write_pickle(file: Path, content: bytes, zipped: bool) -> None:
    """Write a checkpoint whose content is a pickle, in the zip or the legacy format of `torch.save`."""
    buffer = io.BytesIO()
    torch.save({}, buffer, _use_new_zipfile_serialization=zipped)
    empty = pickle.dumps({}, 2)
    if not zipped:
        before, _, after = buffer.getvalue().rpartition(empty)
        file.write_bytes(before + content + after)
        return
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(file, 'w') as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith('data.pkl') else old.read(name))


def write_compressed(file: Path, size: int) -> None:
    """Write a checkpoint with a member of zeros that inflates to so many bytes."""
    torch.save({'model': {'a': torch.zeros(4)}}, file)
    with zipfile.ZipFile(file, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f'{file.stem}/data/1', bytes(size))


def write_claim(file: Path) -> None:
    """Write a checkpoint whose directory says that a tensor of 16 bytes has 4 gigabytes."""
    torch.save({'model': {'a': torch.zeros(4)}}, file)
    with zipfile.ZipFile(file) as archive:
        (member,) = (each for each in archive.infolist() if each.filename.endswith('data/0'))
    content = bytearray(file.read_bytes())
    entry = content.rindex(member.filename.encode()) - 46
    assert content[entry : entry + 4] == b'PK\x01\x02'
    content[entry + 20 : entry + 28] = struct.pack('<II', 0xFFFFFFF0, 0xFFFFFFF0)
    file.write_bytes(content)


def safetensors(header: dict, length: int | None = None) -> bytes:
    """A file of safetensors with a header, of which another length may be claimed."""
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text
