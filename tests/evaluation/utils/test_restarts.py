"""Whether a restarted process goes on from the work dir's last checkpoint."""

import os

import pytest

from evaluation.engine.checkpoints.pointer import resumed_by_restart
from evaluation.utils.process_groups import COUNT, LAUNCHED

LAUNCH = 10**18


@pytest.mark.parametrize(
    ('restarts', 'written', 'expected'),
    [
        (None, LAUNCH + 1, None),
        ('0', LAUNCH + 1, None),
        ('1', None, None),
        # One that lay there before is of another training.
        ('1', LAUNCH - 1, None),
        ('1', LAUNCH + 1, 'latest'),
        ('3', LAUNCH + 1, 'latest'),
    ],
)
def test_only_from_what_was_written_since_the_launch(tmp_path, monkeypatch, restarts, written, expected):
    monkeypatch.setenv(LAUNCHED, str(LAUNCH))
    monkeypatch.delenv(COUNT, raising=False)
    if restarts is not None:
        monkeypatch.setenv(COUNT, restarts)
    if written is not None:
        pointer = tmp_path / 'last_checkpoint'
        pointer.write_text('epoch_1.pth')
        os.utime(pointer, ns=(written, written))
    assert resumed_by_restart(str(tmp_path)) == expected
