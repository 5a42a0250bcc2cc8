"""Checkpoints that claim to be larger than the file."""

import json
import struct
import zipfile
from pathlib import Path

import torch


def write_compressed(file: Path, size: int) -> None:
    """Write a checkpoint with a member of zeros that inflates to `size` bytes."""
    torch.save({'model': {'a': torch.zeros(4)}}, file)
    with zipfile.ZipFile(file, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f'{file.stem}/data/1', bytes(size))


def write_claim(file: Path) -> None:
    """Write a checkpoint whose directory claims 4 GB for a tensor of 16 bytes."""
    torch.save({'model': {'a': torch.zeros(4)}}, file)
    with zipfile.ZipFile(file) as archive:
        (member,) = (each for each in archive.infolist() if each.filename.endswith('data/0'))
    content = bytearray(file.read_bytes())
    entry = content.rindex(member.filename.encode()) - 46
    assert content[entry : entry + 4] == b'PK\x01\x02'
    content[entry + 20 : entry + 28] = struct.pack('<II', 0xFFFFFFF0, 0xFFFFFFF0)
    file.write_bytes(content)


def safetensors(header: dict, length: int | None = None) -> bytes:
    """Return a safetensors file with a header, optionally with a false header length."""
    text = json.dumps(header).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text
