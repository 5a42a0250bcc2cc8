"""A map of contributions as a small picture, in the colours of the suite's figures."""

import base64
import io

import matplotlib
import numpy as np
from PIL import Image

from evaluation.analysis.receptive_field.figure import FAINTEST

SIDE = 96
# Of a palette picture; more are not told apart in a map of this size.
_LEVELS = 64
_COLORS = 'magma'


def as_data_uri(mean: np.ndarray) -> str:
    """A map as PNG: logarithmic from 1e-4 of the largest contribution on.

    Args:
        mean: (H, W), contributions; larger maps are averaged down to `SIDE` pixels.

    Raises:
        ValueError: it is no map, or has no contribution.
    """
    if mean.ndim != 2 or not np.isfinite(mean).all() or mean.max() <= 0:
        raise ValueError('a map of contributions is empty, or not finite')
    small = _averaged(mean)
    shares = np.clip(small / small.max(), FAINTEST, 1.0)
    levels = np.round((1 - np.log(shares) / np.log(FAINTEST)) * (_LEVELS - 1)).astype(np.uint8)
    picture = Image.fromarray(levels, mode='P')
    colors = matplotlib.colormaps[_COLORS](np.linspace(0, 1, _LEVELS))[:, :3]
    picture.putpalette(np.round(255 * colors).astype(np.uint8).tobytes())
    content = io.BytesIO()
    picture.save(content, 'PNG', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(content.getvalue()).decode()


def _averaged(mean: np.ndarray) -> np.ndarray:
    """Means of blocks, the fewest that leave at most `SIDE` of them along the longer side."""
    block = -(-max(mean.shape) // SIDE)
    if block == 1:
        return mean
    starts = [np.arange(0, length, block) for length in mean.shape]
    sums = np.add.reduceat(np.add.reduceat(mean, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff([*at, length]) for at, length in zip(starts, mean.shape, strict=True)]
    return sums / np.outer(*sizes)
