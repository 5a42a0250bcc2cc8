"""Pause Python's garbage collector while millions of objects are made that stay."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Do not search for reference cycles: each search would go through all that was made so far."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def end_start_up() -> None:
    """Collect garbage again, but never search what exists now: the modules of the libraries.

    They are about a million objects; one search through them takes 0.3 s.
    """
    gc.freeze()
    gc.enable()
