"""What is done to images: which transforms, how strong, in which direction."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.analysis.invariance.geometry import Affine, rotation, translation, zoom
from evaluation.analysis.protocols import SUITE
from evaluation.utils.errors import UserError, did_you_mean

TRANSLATION, ROTATION, SCALE = TRANSFORMS = ('translation', 'rotation', 'scale')
# Of the paper: pixels, degrees, and the crop's share of the image.
STRENGTHS = {
    TRANSLATION: tuple(float(pixels) for pixels in range(0, 65, 4)),
    ROTATION: tuple(float(degrees) for degrees in range(0, 91, 5)),
    SCALE: tuple(thousandths / 1000 for thousandths in range(200, 2001, 125)),
}
BOUNDS = {TRANSLATION: (0, 4096), ROTATION: (0, 360), SCALE: (0.05, 20)}
UNITS = {TRANSLATION: 'pixels', ROTATION: 'degrees', SCALE: 'crop ratios'}
# How often, or how well, predictions agree with those for the unchanged images.
CONSISTENCY = 'consistency'
# Right and down, in steps of the strength.
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
# The release draws a number below 7 for one of eight directions; this one, its last, never comes.
NEVER_RELEASED = 'up-right'


@dataclass(frozen=True)
class Condition:
    """One change of an image.

    Attributes:
        transform: `translation`, `rotation` or `scale`.
        strength: pixels, degrees, or the crop's share of the image.
        direction: of a translation, '' where nothing moves and of other transforms.
    """

    transform: str
    strength: float
    direction: str = ''

    def __str__(self) -> str:
        return ' '.join(filter(None, [self.transform, f'{self.strength:g}', self.direction]))

    @property
    def shift(self) -> tuple[int, int]:
        """Pixels right and down, of a translation."""
        right, down = DIRECTIONS.get(self.direction, (0, 0))
        return right * int(self.strength), down * int(self.strength)

    def affine(self, size: tuple[int, int]) -> Affine:
        """Where the points of an image of a height and width come to."""
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
    """What the command line asks for, in order.

    Args:
        transforms: names; None for all.
        strengths: of the one transform; None for the paper's.
        steps: take so many of the paper's, evenly, with the first and the last; None for all.
        directions: of translations; None for all of the protocol.
        protocol: `suite` with eight directions, or `released` with seven.

    Raises:
        UserError: a name is unknown, a strength out of bounds, or options do not go together.
    """
    chosen = _known('--transforms', transforms, TRANSFORMS)
    known = [name for name in DIRECTIONS if protocol == SUITE or name != NEVER_RELEASED]
    ways = _known('--directions', directions, known)
    if strengths and (len(chosen) > 1 or steps):
        what = '--steps' if steps else 'several --transforms'
        raise UserError(f'--strengths and {what} do not go together; give one transform and no --steps')
    return [
        condition
        for transform in chosen
        for strength in _strengths(transform, strengths, steps)
        for condition in _in_directions(transform, strength, ways)
    ]


def _known(option: str, names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The names that were given, each once and in the order of those known; these without any."""
    for name in names or ():
        if name not in known:
            near = did_you_mean(name, known)
            raise UserError(f'{option}: unknown {name!r}; known are {", ".join(known)}{near}')
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
        raise UserError(f'--strengths {strength:g}: give whole pixels for {transform}')


def _in_directions(transform: str, strength: float, directions: Sequence[str]) -> list[Condition]:
    if transform != TRANSLATION or strength == 0:
        return [Condition(transform, strength)]
    return [Condition(transform, strength, direction) for direction in directions]
