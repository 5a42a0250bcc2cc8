"""Jobs, as submitit calls them."""

import signal

import pytest

from evaluation.sweep import work
from evaluation.sweep.identity import Identity
from evaluation.sweep.launching import Node, Place
from evaluation.sweep.work import REQUEUE, Task, Work


@pytest.fixture
def _own_signals():
    """Jobs catch signals; afterwards these are pytest's again."""
    numbers = (*work.STOPPING, REQUEUE)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures('_own_signals')
def test_second_machine_has_nothing_to_do_in_a_test_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(work, 'this_node', lambda: Node(1, 2, 'first'))
    identity = Identity('c' * 64, 'd' * 64, checkpoint_sha256='f' * 64)
    task = Task(tmp_path, 'swin.py', identity, None, ('--work-dir', 'x'), None, 'swin.pth')
    assert Work(task, Place(2, 1, None, 20000), 'token')() == 'done'
    assert not list(tmp_path.iterdir())
