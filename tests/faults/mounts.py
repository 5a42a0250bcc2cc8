"""File systems for a test, on machines where root may mount some."""

import contextlib
import functools
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def mount(*arguments: object) -> bool:
    """Whether `mount` could do what was asked."""
    try:
        return subprocess.run(['mount', *map(str, arguments)], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def unmount(folder: Path) -> None:
    """Take a file system away, even if a process that is about to end has a file open there."""
    subprocess.run(['umount', '--lazy', str(folder)], check=True, capture_output=True)


@functools.cache
def can_mount() -> bool:
    """Whether this user may mount file systems."""
    with tempfile.TemporaryDirectory() as folder:
        if not mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder):
            return False
        unmount(Path(folder))
        return True


needs_mounts = pytest.mark.skipif(
    not can_mount(), reason='file systems can be mounted by root alone, outside of most containers'
)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The same folder without the right to write, but for files that are open already."""
    assert mount('--bind', folder, folder)
    try:
        assert mount('-o', 'remount,bind,ro', folder)
        yield
    finally:
        unmount(folder)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at a folder, over what lies there."""
    folder.mkdir(exist_ok=True)
    assert mount('-t', 'tmpfs', '-o', options, 'tmpfs', folder)
    try:
        yield
    finally:
        unmount(folder)
