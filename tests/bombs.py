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


def text(value: str) -> bytes:
    """What puts a text on the stack."""
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def number(value: int) -> bytes:
    """What puts a number on the stack."""
    return b'J' + struct.pack('<i', value)


def of_a_dict(value: bytes) -> bytes:
    """A pickle of a dict with one entry."""
    return b'\x80\x02}' + text('a') + value + b's.'


def encoded(levels: int = 28) -> bytes:
    """A text whose hexadecimal digits are encoded as such again and again, twice as many each time."""
    start = b'c_codecs\nencode\n' * (levels + 1) + text('a') + text('latin1') + b'\x86R'
    return of_a_dict(start + (text('hex') + b'\x86R') * levels)


def copies(count: int = 100) -> bytes:
    """Configs that are each made of the same dict of 100,000 entries."""
    entries = b''.join(number(key) + b'N' for key in range(100_000))
    config = b'cmmengine.config.config\nConfigDict\nh\x01\x85R'
    return of_a_dict(b'](}(' + entries + b'uq\x01' + config * count + b'e')


def left_over(count: int = 100_000) -> bytes:
    """Dicts that are made and left beside the content."""
    return b'\x80\x02' + b'}' * count + b'}.'


def called(function: str, arguments: bytes) -> bytes:
    """A call with one argument."""
    module, _, name = function.rpartition('.')
    return f'c{module}\n{name}\n'.encode() + arguments + b'\x85R'


def storage(elements: int) -> bytes:
    """What stands for a storage of so many numbers."""
    kind = b'ctorch\nFloatStorage\n'
    return b'(' + text('storage') + kind + text('0') + text('cpu') + number(elements) + b'tQ'


def grown(elements: int = 10**9) -> bytes:
    """A tensor of more elements than its storage, which torch makes larger."""
    view = storage(1) + number(0) + number(elements) + b'\x85' + number(1) + b'\x85'
    return of_a_dict(b'ctorch._utils\n_rebuild_tensor_v2\n(' + view + b'\x89}tR')


def grown_by_a_state(elements: int = 10**9) -> bytes:
    """The same, by the state of an empty tensor."""
    view = storage(1) + number(0) + number(elements) + b'\x85' + number(1) + b'\x85'
    return of_a_dict(b'ctorch\nTensor\n)R(' + view + b'tb')


def called_by_another(elements: int = 10**9) -> bytes:
    """A function that makes what a number says, called by one that is allowed to call."""
    allocated = b'ctorch\nFloatTensor\n' * 2 + number(elements) + b'\x85}'
    return of_a_dict(b'ctorch._tensor\n_rebuild_from_type_v2\n(' + allocated + b'tR')


# A dict whose key is a tuple in a tuple: to build it is to compute the key's hash.
DEEP_KEY = b'\x80\x02}' + b')' + b'\x85' * DEEP + b'Ns.'
PICKLES: dict[str, Callable[[], bytes]] = {
    'lists in lists': lambda: b'\x80\x02' + b']' * DEEP + b'a' * (DEEP - 1) + b'.',
    'a key of tuples in tuples': lambda: DEEP_KEY,
    'lists that repeat': laughs,
    'lists that repeat, filled later': laughs_filled_later,
    'a bytearray of a terabyte': lambda: pickle.dumps(Allocated(10**12), 2),
    'a bytearray of a gigabyte': lambda: pickle.dumps(Allocated(10**9), 2),
    'a bytearray of Python 2': lambda: of_a_dict(called('__builtin__.bytearray', number(10**9))),
    'digits of digits': encoded,
    'copies': copies,
    'values beside the content': left_over,
    'a tensor of a gigabyte': lambda: of_a_dict(called('torch.FloatTensor', number(10**9))),
    'a tensor, otherwise named': lambda: of_a_dict(called('torch.cuda.FloatTensor', number(10**9))),
    'a storage': lambda: of_a_dict(called('torch.storage.UntypedStorage', number(10**9))),
    'a tensor beyond its storage': grown,
    'a state beyond its storage': grown_by_a_state,
    'a call by another': called_by_another,
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


def write_members(file: Path, members: dict[str, bytes]) -> None:
    """Write a zip as torch does, without compression."""
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def write_two_directories(file: Path, seen: bytes, read: bytes) -> None:
    """Write a zip of which Python finds the pickle `seen`, and torch finds `read`, of equal length.

    The end says where the first directory is, and the second lies right before it; Python takes what
    is between the two for something that was put before the zip.
    """
    assert len(seen) == len(read)
    wholes = []
    for content in (read, seen):
        write_members(file, {'archive/data.pkl': content, 'archive/version': b'3\n'})
        wholes.append(file.read_bytes())
    file.write_bytes(wholes[0][:-22] + wholes[1])


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
