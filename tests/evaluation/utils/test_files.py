"""Atomic writing of files, also across power failures."""

import errno
import os
from pathlib import Path

import pytest

from evaluation.utils.files import user_path, write_bytes


def test_content_is_synced_before_the_name_and_the_name_before_returning(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def fsync_noted(handle):
        path = Path(os.readlink(f'/proc/self/fd/{handle}'))
        calls.append(('fsync', str(path), path.read_bytes() if path.is_file() else None))
        fsync(handle)

    def replace_noted(source, target):
        calls.append(('rename', str(source), str(target)))
        replace(source, target)

    monkeypatch.setattr(os, 'fsync', fsync_noted)
    monkeypatch.setattr(os, 'replace', replace_noted)
    write_bytes(tmp_path / 'file', b'content')
    (_, unfinished, content), (_, source, target), (_, folder, _) = calls
    assert [call[0] for call in calls] == ['fsync', 'rename', 'fsync']
    assert content == b'content'
    assert source == unfinished != target == str(tmp_path / 'file')
    assert folder == str(tmp_path)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / 'file').write_bytes(b'before')

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match=r'No space left on device: .*/file') as caught:
        write_bytes(tmp_path / 'file', b'after')
    assert caught.value.filename == str(tmp_path / 'file')
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {'file': b'before'}


@pytest.mark.parametrize(
    ('text', 'path'), [('~/a', '/home/me/a'), ('a/~', 'a/~'), ('~nobody-here/a', '~nobody-here/a')]
)
def test_home_that_a_shell_did_not_expand(monkeypatch, text, path):
    monkeypatch.setenv('HOME', '/home/me')
    assert str(user_path(text)) == path
