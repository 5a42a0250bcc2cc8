"""Checkpoints that try to run a command, and a check of whether they did."""

import os
from pathlib import Path

import torch


class Command:
    """An object that pickles as a call that creates a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def write_hostile(file: Path, content: dict, proof: Path, zipped: bool) -> None:
    """Write `content` and a command that creates the folder `proof`, in the zip or legacy format.

    The command comes first, so it would run before any error in `content`.
    """
    torch.save({'command': Command(proof), **content}, file, _use_new_zipfile_serialization=zipped)


def is_as_dangerous_as_meant(file: Path, proof: Path) -> bool:
    """Return whether full unpickling, which the suite never does, creates the folder `proof`."""
    assert not proof.exists()
    torch.load(file, weights_only=False)
    return proof.exists()
