"""Checkpoints that would run a command, and the proof whether they did."""

import os
from pathlib import Path

import torch


class Command:
    """Pickles as a call that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def write_hostile(file: Path, content: dict, proof: Path, zipped: bool) -> None:
    """Write `content` and a command that makes the folder `proof`, in the zip or the legacy format.

    The command comes first, so that whoever runs it does so before anything in `content` can be wrong.
    """
    torch.save({'command': Command(proof), **content}, file, _use_new_zipfile_serialization=zipped)


def is_as_dangerous_as_meant(file: Path, proof: Path) -> bool:
    """Whether full unpickling, which nothing in the suite does, makes the folder `proof`."""
    assert not proof.exists()
    torch.load(file, weights_only=False)
    return proof.exists()
