"""What counts as a number, an id or a name in a file that anyone may have written."""

import math
from collections.abc import Iterable
from typing import Any

# Beyond these, ids are no whole numbers to the libraries that count them.
LARGEST_ID = 2**63 - 1
# Of a value that an error quotes.
LONGEST_QUOTE = 100


def all_finite(numbers: Iterable[Any]) -> bool:
    """Whether all are numbers, none of them NaN, infinite, or too large for a float."""
    try:
        return math.isfinite(sum(numbers))
    except (TypeError, OverflowError):
        return False


def is_id(value: Any) -> bool:
    """Whether this is a whole number of 64 bits or a text."""
    return type(value) is str or (type(value) is int and abs(value) <= LARGEST_ID)


def is_name(value: Any) -> bool:
    """Whether this is a text that can be written, as a name of a file or to the terminal."""
    if type(value) is not str or '\0' in value:
        return False
    try:
        value.encode()
    # JSON can hold halves of characters.
    except UnicodeEncodeError:
        return False
    return True


def quoted(value: Any) -> str:
    """A value as Python writes it, cut short where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_QUOTE else f'{text[:LONGEST_QUOTE]}...'
