"""Whole numbers of the command line."""

import argparse

LARGEST = 2**31 - 1


def positive(text: str) -> int:
    """A whole number from 1 on."""
    return whole(text, least=1)


def whole(text: str, least: int = 0, most: int = LARGEST) -> int:
    """A whole number from `least` to `most`.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not is_number or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from {least} to {most}')
    return int(text)
