"""Chunks of the selective scan's fast paths."""

# Positions in a chunk. The state before each chunk is kept for the backward pass, S numbers per channel
# and direction: with S = 1, this is a sixteenth of the map in float32.
CHUNK = 64


def chunks(length: int) -> int:
    """Return the number of chunks of a sequence."""
    return -(-length // CHUNK)
