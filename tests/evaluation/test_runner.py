"""What the suite's runner checks beyond mmengine's."""

from types import SimpleNamespace

import pytest

from evaluation import runner as module
from evaluation.errors import UserError
from evaluation.runner import BenchmarkRunner


@pytest.mark.parametrize(
    ('elsewhere', 'named'),
    [(('epoch_2.pth', True), 'epoch_2.pth, epoch_3.pth'), (('', False), 'epoch_3.pth, nothing')],
)
def test_processes_must_go_on_from_one_checkpoint(monkeypatch, elsewhere, named):
    """Machines whose file systems differ would train with different weights, and not notice."""
    here = SimpleNamespace(_load_from='run/epoch_3.pth', _resume=True, to_test=None)
    monkeypatch.setattr(module, 'all_gather_object', lambda mine: [mine, elsewhere])
    with pytest.raises(UserError, match=named):
        BenchmarkRunner._check_one_start(here)


def test_the_same_name_may_lie_in_different_places(monkeypatch):
    here = SimpleNamespace(_load_from='/here/epoch_3.pth', _resume=True, to_test=None)
    monkeypatch.setattr(module, 'all_gather_object', lambda mine: [mine, ('epoch_3.pth', True)])
    BenchmarkRunner._check_one_start(here)
