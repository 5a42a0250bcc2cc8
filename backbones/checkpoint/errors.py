"""What is wrong with a checkpoint file, before it is known which file it is."""


class BombError(Exception):
    """A checkpoint that would exhaust the machine; the message says what it holds."""
