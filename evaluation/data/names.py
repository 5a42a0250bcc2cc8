"""Names of files that other files state."""

import os


def leads_out(name: str) -> bool:
    """Whether a name leads out of the folder that it is relative to."""
    return os.path.isabs(name) or os.path.normpath(name).split(os.sep, 1)[0] == os.pardir
