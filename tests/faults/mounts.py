"""Temporary file systems for tests, on machines where root can mount them."""

import contextlib
import functools
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def mount(*arguments: object) -> bool:
    """Run `mount` and return whether it succeeded."""
    try:
        return subprocess.run(['mount', *map(str, arguments)], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def unmount(folder: Path) -> None:
    """Unmount a file system, even if a process that is ending still has a file open there."""
    subprocess.run(['umount', '--lazy', str(folder)], check=True, capture_output=True)


@functools.cache
def can_mount() -> bool:
    """Return whether this user can mount file systems."""
    with tempfile.TemporaryDirectory() as folder:
        if not mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder):
            return False
        unmount(Path(folder))
        return True


needs_mounts = pytest.mark.skipif(
    not can_mount(), reason='mounting file systems needs root, and most containers do not allow it'
)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only, except for files that are already open."""
    assert mount('--bind', folder, folder)
    try:
        assert mount('-o', 'remount,bind,ro', folder)
        yield
    finally:
        unmount(folder)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory over a folder."""
    folder.mkdir(exist_ok=True)
    assert mount('-t', 'tmpfs', '-o', options, 'tmpfs', folder)
    try:
        yield
    finally:
        unmount(folder)
