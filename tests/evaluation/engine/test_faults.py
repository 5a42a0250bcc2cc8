"""Machine faults and interruptions end in one line that says how to resume."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from evaluation.engine.faults import machine_fault, stop_explained
from evaluation.utils.errors import UserError
from evaluation.utils.interruption import Interrupted


def save(work_dir, name):
    """Write a checkpoint and `last_checkpoint` as mmengine does."""
    (work_dir / name).write_text('weights')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / name))


def advice(work_dir, *saved, resumed_from=None, error=KeyboardInterrupt):
    """Return the message when a training that saved some checkpoints is interrupted."""

    def train():
        with stop_explained(str(work_dir), resumed_from):
            for name in saved:
                save(work_dir, name)
            try:
                raise KeyboardInterrupt
            finally:
                raise error

    with pytest.raises(Interrupted) as caught:
        train()
    return str(caught.value)


class TestInterruptionOfTraining:
    def test_names_the_last_checkpoint(self, tmp_path):
        said = advice(tmp_path, 'epoch_1.pth', 'epoch_2.pth')
        expected = f'the last checkpoint is {tmp_path}/epoch_2.pth; to resume, '
        assert said == f'{expected}run the same command with --resume'

    def test_ignores_the_checkpoint_of_an_earlier_training(self, tmp_path):
        save(tmp_path, 'epoch_9.pth')
        assert advice(tmp_path).startswith('no checkpoint was written yet; ')

    def test_resumed(self, tmp_path):
        save(tmp_path, 'epoch_9.pth')
        said = advice(tmp_path, resumed_from='epoch_9.pth')
        assert said.startswith('no checkpoint was written since epoch_9.pth; ')

    def test_missing_checkpoint(self, tmp_path):
        (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'gone.pth'))
        assert advice(tmp_path).startswith('no checkpoint was written yet; ')

    def test_error_while_unwinding(self, tmp_path):
        said = advice(tmp_path, 'epoch_1.pth', error=RuntimeError('a data worker is gone'))
        assert said.startswith(f'the last checkpoint is {tmp_path}/epoch_1.pth; ')

    def test_other_errors_are_not_changed(self, tmp_path):
        with pytest.raises(RuntimeError, match='broken'), stop_explained(str(tmp_path)):
            raise RuntimeError('broken')


class TestFault:
    def test_of_the_machine(self, tmp_path):
        expected = (
            rf'^{tmp_path}/log: No space left on device; free some space there; no checkpoint was '
        )
        with pytest.raises(UserError, match=expected), stop_explained(str(tmp_path)):
            raise OSError(errno.ENOSPC, 'full', f'{tmp_path}/log')

    def test_user_error_after_a_checkpoint(self, tmp_path):
        def train():
            with stop_explained(str(tmp_path)):
                save(tmp_path, 'epoch_1.pth')
                raise UserError('the loss is nan')

        with pytest.raises(
            UserError, match=rf'^the loss is nan; the last checkpoint is {tmp_path}/epoch'
        ):
            train()

    def test_user_error_before_any_checkpoint(self, tmp_path):
        with pytest.raises(UserError, match=r'^no such file$'), stop_explained(str(tmp_path)):
            raise UserError('no such file')


class TestLostWorker:
    """A data loading process is killed while the training waits for its batch."""

    @pytest.fixture
    def killed(self):
        """Process id of a killed child that was not waited for yet."""
        child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child.pid
        child.wait()
        child.stdin.close()

    def test_is_named(self, tmp_path, killed):
        assert f'a data loading process ({killed}) was killed' in machine_fault(
            EOFError(), str(tmp_path)
        )

    def test_signal_handler_of_torch_may_raise(self, tmp_path):
        """A handler like that of `torch.utils.data._utils.signal_handling`, which stays installed."""

        def handler(number, frame):
            raise RuntimeError('DataLoader worker (pid 4321) is killed by signal: Killed. ')

        before = signal.signal(signal.SIGCHLD, handler)
        child = subprocess.Popen(['sh', '-c', 'sleep 0.3; kill -9 $$'])
        try:
            said = machine_fault(ConnectionResetError(), str(tmp_path))
            assert signal.getsignal(signal.SIGCHLD) is handler
        finally:
            signal.signal(signal.SIGCHLD, before)
            child.wait()
        assert said.startswith('a data loading process (4321) was killed, possibly because memory ')

    def test_signal_handler_of_torch_may_raise_at_any_time(self, tmp_path, monkeypatch):
        calls = []

        def last_written(work_dir):
            calls.append(work_dir)
            if len(calls) == 2:  # the first look is before the training
                raise RuntimeError('DataLoader worker (pid 4321) is killed by signal: Killed. ')

        monkeypatch.setattr('evaluation.engine.faults._last_written', last_written)
        message = r'^a data loading process \(4321\) was killed'
        with pytest.raises(UserError, match=message), stop_explained(str(tmp_path)):
            raise ConnectionResetError

    def test_other_errors_of_a_handler_are_not_changed(self, tmp_path):
        def handler(number, frame):
            raise RuntimeError('broken')

        before = signal.signal(signal.SIGCHLD, handler)
        child = subprocess.Popen(['sh', '-c', 'sleep 0.3; kill -9 $$'])
        try:
            with pytest.raises(RuntimeError, match='broken'):
                machine_fault(EOFError(), str(tmp_path))
        finally:
            signal.signal(signal.SIGCHLD, before)
            child.wait()

    def test_end_of_file_without_children(self, tmp_path, monkeypatch):
        monkeypatch.setattr('evaluation.engine.faults.SECONDS_TO_DIE', 0.1)
        assert machine_fault(EOFError(), str(tmp_path)) is None
