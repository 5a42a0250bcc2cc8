"""How much an attack may change an image, on scales that do not depend on the image's size."""

import math
from collections.abc import Sequence

DEFAULT_BUDGETS = {'linf': (1.0, 2.0, 4.0, 8.0), 'l2': (0.25, 0.5, 1.0, 2.0)}
UNITS = {
    'linf': 'largest change of a pixel, in 255ths',
    'l2': 'root mean square change of the pixels, in 255ths',
}


def radius_of(budget: float, norm: str, shape: Sequence[int]) -> float:
    """Largest norm of the change of an image with pixels of 0 to 255.

    Args:
        budget: in 255ths of the pixels' range: of each change in `linf`, of their root mean square in
            `l2`.
        norm: `linf` or `l2`.
        shape: of the image, (3, H, W).
    """
    return budget * math.sqrt(math.prod(shape)) if norm == 'l2' else budget
