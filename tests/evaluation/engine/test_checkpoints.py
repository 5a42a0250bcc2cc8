"""Find the checkpoints of a work dir."""

import os
import shutil

import pytest

from evaluation.engine.checkpoints import last_checkpoint, named_checkpoint, resumed_by_restart
from evaluation.utils.process_groups import COUNT, LAUNCHED

LAUNCH = 10**18


@pytest.fixture
def work_dir(tmp_path):
    """A work dir whose training wrote two checkpoints."""
    folder = tmp_path / 'run'
    folder.mkdir()
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (folder / name).write_text(name)
    (folder / 'last_checkpoint').write_text(f'{folder}/epoch_2.pth\n')
    return folder


def test_named(work_dir):
    assert last_checkpoint(work_dir) == work_dir / 'epoch_2.pth'
    assert named_checkpoint(str(work_dir)) == str(work_dir / 'epoch_2.pth')


def test_moved(work_dir, tmp_path):
    moved = work_dir.rename(tmp_path / 'moved')
    assert last_checkpoint(moved) == moved / 'epoch_2.pth'


def test_copied(work_dir, tmp_path):
    copy = tmp_path / 'copy'
    shutil.copytree(work_dir, copy)
    assert last_checkpoint(copy) == copy / 'epoch_2.pth'


def test_checkpoints_in_another_folder(work_dir, tmp_path):
    other = tmp_path / 'epoch_3.pth'
    other.write_text('weights')
    (work_dir / 'last_checkpoint').write_text(str(other))
    assert last_checkpoint(work_dir) == other


def test_gone(work_dir):
    (work_dir / 'epoch_2.pth').unlink()
    assert last_checkpoint(work_dir) is None


@pytest.mark.parametrize('content', [b'', b'\0' * 40, b'\xff\xfe\x80', b'\n'])
def test_garbled(work_dir, content):
    (work_dir / 'last_checkpoint').write_bytes(content)
    assert named_checkpoint(work_dir) == ''
    assert last_checkpoint(work_dir) is None


def test_none(tmp_path):
    assert named_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path) is None


@pytest.mark.parametrize(
    ('restarts', 'written', 'expected'),
    [
        (None, LAUNCH + 1, None),
        ('0', LAUNCH + 1, None),
        ('1', None, None),
        # A checkpoint from before the launch belongs to another training.
        ('1', LAUNCH - 1, None),
        ('1', LAUNCH + 1, 'latest'),
        ('3', LAUNCH + 1, 'latest'),
    ],
)
def test_restart_resumes_only_from_checkpoints_written_since_the_launch(
    tmp_path, monkeypatch, restarts, written, expected
):
    monkeypatch.setenv(LAUNCHED, str(LAUNCH))
    monkeypatch.delenv(COUNT, raising=False)
    if restarts is not None:
        monkeypatch.setenv(COUNT, restarts)
    if written is not None:
        pointer = tmp_path / 'last_checkpoint'
        pointer.write_text('epoch_1.pth')
        os.utime(pointer, ns=(written, written))
    assert resumed_by_restart(str(tmp_path)) == expected
