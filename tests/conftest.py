import os
from pathlib import Path

import pytest
import torch

# Several test processes share the cores; more threads each only make them wait for one another.
torch.set_num_threads(int(os.environ.get('TEST_THREADS', '1')))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def pytest_addoption(parser):
    parser.addoption(
        '--write-errors',
        type=Path,
        metavar='FILE',
        help='write to FILE what docs/errors.md should say; run without -n',
    )


def pytest_collection_modifyitems(config, items):
    """To write the page it takes the tests that enter something there, and no others."""
    if config.getoption('--write-errors'):
        kept = [item for item in items if 'errors_page' in item.fixturenames]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept
