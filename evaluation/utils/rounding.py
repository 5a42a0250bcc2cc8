"""One rule of rounding for all figures that are printed; `assets/data.js` has the same for the report.

Ties are rounded away from zero, as readers do by hand: 62.25 is 62.3 and 2.675 is 2.68. What counts is
the shortest decimal that reads back as the number, which files hold. Python's formats round the binary
number, and its ties to even: 62.2 and 2.67.
"""

import math
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
