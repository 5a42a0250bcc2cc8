"""An older checkpoint is removed only after the newer one is complete."""

from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from evaluation.engine.hooks.training import SafeCheckpointHook


class Training:
    """Fake runner that saves checkpoints of one byte.

    Attributes:
        seen: names of the existing checkpoints before each save.
        fails_at: epoch whose checkpoint cannot be written.
    """

    def __init__(self, folder, name, fails_at=None):
        self.work_dir = str(folder)
        self.folder = folder
        self.message_hub = MessageHub(name)
        self.logger = SimpleNamespace(info=lambda _: None)
        self.epoch, self.iter = 0, 0
        self.seen = []
        self.fails_at = fails_at

    def save_checkpoint(self, out_dir, filename, *_, **__):
        self.seen.append(names(self.folder))
        if self.epoch + 1 == self.fails_at:
            raise OSError('disk full')
        (self.folder / filename).write_bytes(b'x')

    def run(self, hook, epochs):
        hook.before_train(self)
        while self.epoch < epochs:
            hook._save_checkpoint(self)
            self.epoch += 1
        hook.after_train(self)


def names(folder):
    return sorted((file.stem for file in folder.glob('*.pth')), key=lambda stem: int(stem[6:]))


@pytest.mark.parametrize(('wish', 'at_the_end'), [(1, 1), (2, 2), (3, 3), (-1, 6)])
def test_last_two_are_kept_until_the_next_is_complete(tmp_path, wish, at_the_end):
    training = Training(tmp_path, f'keep {wish}')
    training.run(SafeCheckpointHook(interval=1, max_keep_ckpts=wish), 6)
    kept = max(wish, 2) if wish > 0 else 6
    for epoch, there in enumerate(training.seen):
        assert there == [f'epoch_{n}' for n in range(1, epoch + 1)][-kept:]
    assert names(tmp_path) == [f'epoch_{n}' for n in range(1, 7)][-at_the_end:]
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_6.pth')


def test_failed_write_removes_no_checkpoint(tmp_path):
    training = Training(tmp_path, 'fails', fails_at=4)
    with pytest.raises(OSError, match='disk full'):
        training.run(SafeCheckpointHook(interval=1, max_keep_ckpts=2), 6)
    assert names(tmp_path) == ['epoch_2', 'epoch_3']
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_3.pth')


def test_resumed_training_keeps_the_right_checkpoints(tmp_path):
    """The state in a checkpoint dates from before the removal of the oldest checkpoint."""
    first = Training(tmp_path, 'first')
    first.run(SafeCheckpointHook(interval=1, max_keep_ckpts=2), 3)
    (tmp_path / 'epoch_1.pth').write_bytes(b'x')
    (tmp_path / 'epoch_4.pth.tmp').write_bytes(b'half')
    second = Training(tmp_path, 'second')
    second.message_hub.update_info('keep_ckpt_ids', [1, 2, 3])
    second.epoch = 3
    second.run(SafeCheckpointHook(interval=1, max_keep_ckpts=2), 5)
    assert second.seen == [['epoch_2', 'epoch_3'], ['epoch_3', 'epoch_4']]
    assert names(tmp_path) == ['epoch_4', 'epoch_5']
    assert not list(tmp_path.glob('*.tmp'))
