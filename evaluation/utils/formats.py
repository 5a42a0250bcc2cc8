"""Whole numbers of the command line, rounding, and times as files and progress state them.

One rule of rounding holds for all printed figures; `assets/data.js` has the same for the report.
"""

import argparse
import math
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Context, Decimal

# More digits than any float has.
_EXACT = Context(prec=800, rounding=ROUND_HALF_UP)


def fixed(value: float, digits: int) -> str:
    """Round to some digits after the point; zero has no sign."""
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    return f'{_rounded(value, digits):f}'


def signed(value: float, digits: int) -> str:
    """The same with a sign, `+0.3`, but for zero; the minus is an ASCII one."""
    text = fixed(value, digits)
    return text if value < 0 or not float(text) else f'+{text}'


def significant(value: float, digits: int = 3) -> str:
    """Round to some significant digits, without zeros at the end: `0.0123`, `2.5`, `1230`."""
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    after_point = digits - 1 - Decimal(repr(value)).adjusted() if value else 0
    return f'{_rounded(value, after_point).normalize(_EXACT):f}'


def _rounded(value: float, digits: int) -> Decimal:
    found = Decimal(repr(value)).quantize(Decimal(1).scaleb(-digits), context=_EXACT)
    return found if found else abs(found)


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


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def clock(seconds: float) -> str:
    """Minutes and seconds, `3:07`."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02}'
