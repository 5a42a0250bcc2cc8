"""`torch.compile` without its silent way out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch._dynamo

# Rows share code, which each compiles anew for its own dims, depths and size.
_MOST_VERSIONS = 4096


@contextmanager
def compiled_throughout() -> Iterator[None]:
    """Compile every row, however many share code: beyond a limit the rest would not be, unsaid."""
    limits = {
        'recompile_limit': _MOST_VERSIONS,
        'accumulated_recompile_limit': _MOST_VERSIONS,
        'fail_on_recompile_limit_hit': True,
    }
    with torch._dynamo.config.patch(limits):
        yield
