"""How values are given and shown: whole numbers, rounding, times, and colors of models in figures.

All printed figures use the same rounding; `assets/data.js` has the same rule for the report.
"""

import argparse
import math
from collections.abc import Iterable
from datetime import datetime, timezone
from decimal import ROUND_HALF_UP, Context, Decimal

# More digits than any float has.
_EXACT = Context(prec=800, rounding=ROUND_HALF_UP)


def fixed(value: float, digits: int) -> str:
    """Round to a number of digits after the decimal point; zero has no sign."""
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    return f'{_rounded(value, digits):f}'


def signed(value: float, digits: int) -> str:
    """Round as `fixed` does, with a sign unless zero: `+0.3`; the minus is an ASCII hyphen."""
    text = fixed(value, digits)
    return text if value < 0 or not float(text) else f'+{text}'


def significant(value: float, digits: int = 3) -> str:
    """Round to a number of significant digits, without trailing zeros: `0.0123`, `2.5`, `1230`."""
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
    """Parse a whole number of at least 1."""
    return whole(text, least=1)


def whole(text: str, least: int = 0, most: int = LARGEST) -> int:
    """Parse a whole number from `least` to `most`.

    Raises:
        argparse.ArgumentTypeError: the text is anything else.
    """
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
    if not is_number or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from {least} to {most}')
    return int(text)


def now() -> str:
    """Return the current time in UTC, in ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec='seconds')


def clock(seconds: float) -> str:
    """Return minutes and seconds, `3:07`."""
    minutes, rest = divmod(round(seconds), 60)
    return f'{minutes}:{rest:02}'


# Distinguishable with every kind of color vision (Okabe and Ito, "Color Universal Design", 2008). Their
# yellow is omitted because it is faint on white.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
# More colors, far from these and from each other for normal, red-blind and green-blind vision, and
# visible on white and on the dark background of the report.
MORE_COLORS = (
    '#903C20',
    '#203CE4',
    '#205874',
    '#3C7474',
    '#84CC78',
    '#0084FC',
    '#303CA8',
    '#90183C',
    '#F0A8B4',
    '#549C54',
)
# For models that share a color.
DASHES = ('-', '--', ':')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')


def mixer_colors(mixers: Iterable[str]) -> dict[str, str]:
    """Return a color for each mixer, by name; colors repeat if there are more mixers.

    Args:
        mixers: all mixers on a page or in a figure.
    """
    colors = (*COLORS[:-1], *MORE_COLORS)
    return {name: colors[index % len(colors)] for index, name in enumerate(sorted(set(mixers)))}
