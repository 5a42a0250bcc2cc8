"""Trainings that a launcher started again, after one of their processes had failed."""

import os

# Set by `tools/launch.py`: when it began, in nanoseconds since 1970.
LAUNCHED = 'LAUNCHED_NANOSECONDS'
# Set by torchrun in the processes that it starts.
COUNT = 'TORCHELASTIC_RESTART_COUNT'


def restart_count() -> int:
    """How often torchrun has started the processes again, this one among them."""
    return int(os.environ.get(COUNT, 0))
