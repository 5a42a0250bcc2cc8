"""Conditions to test images under, transforms with strengths and directions, as affine maps.

Coordinates are in pixels, with 0 at the outer edge of the first pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.analysis.results import SUITE
from evaluation.utils.errors import UserError, did_you_mean

# Decimals to round to, so that sines and cosines of right angles are integers.
_ROUNDING = 12
TRANSLATION, ROTATION, SCALE = TRANSFORMS = ('translation', 'rotation', 'scale')
# Strengths of the paper: pixels, degrees, and the crop's share of the image side.
STRENGTHS = {
    TRANSLATION: tuple(float(pixels) for pixels in range(0, 65, 4)),
    ROTATION: tuple(float(degrees) for degrees in range(0, 91, 5)),
    SCALE: tuple(thousandths / 1000 for thousandths in range(200, 2001, 125)),
}
BOUNDS = {TRANSLATION: (0, 4096), ROTATION: (0, 360), SCALE: (0.05, 20)}
UNITS = {TRANSLATION: 'pixels', ROTATION: 'degrees', SCALE: 'crop ratios'}
# Agreement of predictions with those for the unchanged images.
CONSISTENCY = 'consistency'
# Steps right and down, in units of the strength.
DIRECTIONS = {
    'right': (1, 0),
    'down-right': (1, 1),
    'down': (0, 1),
    'down-left': (-1, 1),
    'left': (-1, 0),
    'up-left': (-1, -1),
    'up': (0, -1),
    'up-right': (1, -1),
}
# The released code draws one of eight directions with a number below 7, so it never uses the last.
NEVER_RELEASED = 'up-right'


@dataclass(frozen=True)
class Affine:
    """Affine map of points.

    Attributes:
        matrix: (2, 3), applied to (x, y, 1).
    """

    matrix: np.ndarray

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 2), x and y."""
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    @property
    def area_ratio(self) -> float:
        """Ratio of the area after the map to the area before."""
        return abs(float(np.linalg.det(self.matrix[:, :2])))

    @property
    def keeps_boxes(self) -> bool:
        """Whether axis-aligned boxes stay axis-aligned."""
        linear = self.matrix[:, :2] != 0
        return bool((linear.sum(0) == 1).all() and (linear.sum(1) == 1).all())

    def of_middles(self) -> np.ndarray:
        """Return the matrix for coordinates with 0 at the center of the first pixel, as in OpenCV."""
        shifted = self.matrix.copy()
        shifted[:, 2] += self.matrix[:, :2] @ [0.5, 0.5] - 0.5
        return shifted


def translation(right: float, down: float) -> Affine:
    """Return a translation."""
    return Affine(np.array([[1.0, 0.0, right], [0.0, 1.0, down]]))


def rotation(degrees: float, size: tuple[int, int]) -> Affine:
    """Return a counterclockwise rotation about the center of an image of size (height, width)."""
    cosine, sine = (
        round(function(math.radians(degrees)), _ROUNDING) + 0.0 for function in (math.cos, math.sin)
    )
    return about_middle(np.array([[cosine, sine], [-sine, cosine]]), size)


def zoom(crop_ratio: float, size: tuple[int, int]) -> Affine:
    """Return the map that enlarges a centered crop to the whole image; ratios above 1 shrink the image.

    Shrunk images have integer size and position.

    Args:
        crop_ratio: ratio of the crop's height to the image's height.
        size: height and width of the image.
    """
    if crop_ratio <= 1:
        return about_middle(np.eye(2) / crop_ratio, size)
    height, width = size
    inner_height, inner_width = shrunk(crop_ratio, size)
    left, top = (width - inner_width) // 2, (height - inner_height) // 2
    return Affine(np.array([[inner_width / width, 0.0, left], [0.0, inner_height / height, top]]))


def shrunk(crop_ratio: float, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of an image shrunk by a crop ratio above 1."""
    height, width = (max(1, round(side / crop_ratio)) for side in size)
    return height, width


def about_middle(linear: np.ndarray, size: tuple[int, int]) -> Affine:
    """Return the affine map with a linear part (2, 2) that keeps the image center fixed."""
    height, width = size
    middle = np.array([width / 2, height / 2])
    return Affine(np.column_stack([linear, middle - linear @ middle]))


@dataclass(frozen=True)
class Condition:
    """A change applied to every image.

    Attributes:
        transform: `translation`, `rotation` or `scale`.
        strength: pixels, degrees, or the crop's share of the image side.
        direction: direction of a translation; '' for strength 0 and for other transforms.
    """

    transform: str
    strength: float
    direction: str = ''

    def __str__(self) -> str:
        return ' '.join(filter(None, [self.transform, f'{self.strength:g}', self.direction]))

    @property
    def shift(self) -> tuple[int, int]:
        """Shift of a translation, pixels right and down."""
        right, down = DIRECTIONS.get(self.direction, (0, 0))
        return right * int(self.strength), down * int(self.strength)

    def affine(self, size: tuple[int, int]) -> Affine:
        """Return the affine map for an image of size (height, width)."""
        if self.transform == TRANSLATION:
            return translation(*self.shift)
        return (rotation if self.transform == ROTATION else zoom)(self.strength, size)


def choose_conditions(
    transforms: Sequence[str] | None,
    strengths: Sequence[float] | None,
    steps: int | None,
    directions: Sequence[str] | None,
    protocol: str = SUITE,
) -> list[Condition]:
    """Return the conditions that the command line asks for, in order.

    Args:
        transforms: names of transforms; None for all.
        strengths: strengths, if there is a single transform; None for those of the paper.
        steps: number of evenly spaced strengths to take from the paper's; None for all.
        directions: directions of translations; None for all of the protocol.
        protocol: `suite` with eight directions, or `released` with seven.

    Raises:
        UserError: a name is unknown, a strength is out of bounds, or options cannot be combined.
    """
    chosen = _known('--transforms', transforms, TRANSFORMS)
    known = [name for name in DIRECTIONS if protocol == SUITE or name != NEVER_RELEASED]
    ways = _known('--directions', directions, known)
    if strengths and (len(chosen) > 1 or steps):
        what = '--steps' if steps else 'several --transforms'
        raise UserError(f'--strengths and {what} cannot be combined; give one transform and no --steps')
    return [
        condition
        for transform in chosen
        for strength in _strengths(transform, strengths, steps)
        for condition in _in_directions(transform, strength, ways)
    ]


def _known(option: str, names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Return the given names in the order of `known`, without repeats; all of them if none is given."""
    for name in names or ():
        if name not in known:
            near = did_you_mean(name, known)
            raise UserError(f'{option}: unknown {name!r}; choose from {", ".join(known)}{near}')
    return [name for name in known if not names or name in names]


def _strengths(transform: str, given: Sequence[float] | None, steps: int | None) -> list[float]:
    if given:
        for strength in given:
            _check_strength(transform, strength)
        return sorted(set(given))
    usual = STRENGTHS[transform]
    if steps is None or steps >= len(usual):
        return list(usual)
    if steps == 1:
        return [usual[-1]]
    return [usual[round(step * (len(usual) - 1) / (steps - 1))] for step in range(steps)]


def _check_strength(transform: str, strength: float) -> None:
    least, most = BOUNDS[transform]
    if not least <= strength <= most:
        raise UserError(
            f'--strengths {strength:g}: give {UNITS[transform]} from {least} to {most} for {transform}'
        )
    if transform == TRANSLATION and strength != int(strength):
        raise UserError(f'--strengths {strength:g}: give an integer number of pixels for {transform}')


def _in_directions(transform: str, strength: float, directions: Sequence[str]) -> list[Condition]:
    if transform != TRANSLATION or strength == 0:
        return [Condition(transform, strength)]
    return [Condition(transform, strength, direction) for direction in directions]
