"""Sizes of a batch of images, and the smaller ones to try where one does not fit into memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from evaluation.utils.errors import UserError

# Coarsest stride of the backbones, and the smallest side that they take.
STRIDE = 32


@dataclass(frozen=True)
class Size:
    """A batch of images of `height` and `width` pixels."""

    batch: int
    height: int
    width: int

    def __str__(self) -> str:
        images = 'image' if self.batch == 1 else 'images'
        return f'{self.batch} {images} of {self.height}x{self.width} (height x width)'

    @property
    def pixels(self) -> int:
        """Of all images."""
        return self.batch * self.height * self.width


def growing_sizes(shapes: Sequence[tuple[int, int]], batches: Sequence[int]) -> list[Size]:
    """Every size once, the smallest first.

    Args:
        shapes: heights and widths.
        batches: numbers of images.

    Raises:
        UserError: both grow, so that a table of growth would not say what with.
    """
    if len(set(shapes)) > 1 and len(set(batches)) > 1:
        raise UserError('both --side and --batch have several values; let one of them grow at a time')
    sizes = {Size(batch, *shape) for shape in shapes for batch in batches}
    return sorted(sizes, key=lambda size: size.pixels)


def smaller_sizes(size: Size) -> list[Size]:
    """What to try in place of a size that does not fit, the smallest first.

    Sides are halved, to multiples of 32, at one image; then the batch is halved at full sides.
    """
    shapes = [(size.height, size.width)]
    while max(shapes[-1]) > STRIDE:
        shapes.append(tuple(_halved(side) for side in shapes[-1]))
    batches = [size.batch]
    while batches[-1] > 1:
        batches.append(batches[-1] // 2)
    smaller = [replace(size, batch=batch) for batch in batches[1:]]
    smaller += [Size(1, *shape) for shape in shapes[1:]]
    return smaller[::-1]


def _halved(side: int) -> int:
    return min(side, max(STRIDE, -(-side // (2 * STRIDE)) * STRIDE))
