import os

import pytest
import torch

# Several test processes share the cores; more threads each only make them wait for one another.
torch.set_num_threads(int(os.environ.get('TEST_THREADS', '1')))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
