"""Jobs in their own processes, and errors in their output."""

import signal
import subprocess
import sys

import pytest

from evaluation.sweep import work
from evaluation.sweep.launching import (
    Node,
    Place,
)
from evaluation.sweep.record import Identity
from evaluation.sweep.work import REQUEUE, RunTask, Work, complaint, reason, tail
from tests.commands import ROOT


@pytest.fixture
def _own_signals():
    """Restore pytest's signal handlers, which jobs replace."""
    numbers = (*work.STOPPING, REQUEUE)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures('_own_signals')
def test_second_machine_does_nothing_in_a_test(tmp_path, monkeypatch):
    monkeypatch.setattr(work, 'this_node', lambda: Node(1, 2, 'first'))
    identity = Identity('c' * 64, 'd' * 64, checkpoint_sha256='f' * 64)
    task = RunTask(tmp_path, 'swin.py', identity, None, ('--work-dir', 'x'), None, 'swin.pth')
    assert Work(task, Place(2, 1, None, 20000), 'token')() == 'done'
    assert not list(tmp_path.iterdir())


def test_job_does_not_import_torch():
    """Its process waits during the training, on every machine."""
    code = 'import sys, evaluation.sweep.work; sys.exit("torch" in sys.modules)'
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


class TestLog:
    @pytest.mark.parametrize(
        ('lines', 'expected'),
        [
            (['warning: w', 'error: unknown mixer', ''], 'error: unknown mixer'),
            (['Traceback (most recent call last):', '  raise', 'ValueError: bad'], 'ValueError: bad'),
            (
                ['[rank1]: torch.OutOfMemoryError: CUDA', '=====', 'See above'],
                'torch.OutOfMemoryError: CUDA',
            ),
            (['the last words'], 'the last words'),
            (['interrupted: the last checkpoint is x'], 'interrupted: the last checkpoint is x'),
            ([], 'no output'),
        ],
    )
    def test_reason(self, lines, expected):
        assert reason(lines) == expected

    @pytest.mark.parametrize(
        ('error', 'expected'),
        [
            (subprocess.CalledProcessError(1, ['squeue'], stderr='\n \n'), "Command '['squeue']'"),
            (subprocess.CalledProcessError(1, ['squeue'], stderr='\nno way\nto\n'), 'no way'),
            (subprocess.TimeoutExpired(['squeue'], 60, stderr=b'slow \xff\n'), 'slow \ufffd'),
            (subprocess.TimeoutExpired(['squeue'], 60), "Command '['squeue']' timed out"),
            (ValueError(), 'no reason given'),
        ],
    )
    def test_complaint(self, error, expected):
        assert complaint(error).startswith(expected)

    def test_tail_of_one_attempt(self, tmp_path):
        (tmp_path / 'log').write_bytes(b'before\n')
        assert tail(tmp_path / 'log', start=7) == []
        (tmp_path / 'log').write_bytes(b'before\nnow \xff\n\n----\n')
        assert tail(tmp_path / 'log', start=7) == ['now �']
        assert tail(tmp_path / 'nowhere') == []
