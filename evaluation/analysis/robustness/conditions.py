"""Conditions of images: attacks of several budgets, corruptions of several severities."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from imagecorruptions import corrupt, corruption_dict, get_corruption_names

from evaluation.analysis.robustness.attacks import ATTACKS
from evaluation.utils.errors import UserError
from evaluation.utils.random_state import seeded

CLEAN = 'clean'
CORRUPTIONS = tuple(get_corruption_names('common'))
KINDS = {kind: get_corruption_names(kind) for kind in ('noise', 'blur', 'weather', 'digital')}
SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 32


@dataclass(frozen=True)
class Condition:
    """One thing that is done to every image.

    Attributes:
        name: `clean`, an attack, or a corruption.
        level: budget of the attack, in 255ths, or severity of the corruption.
    """

    name: str
    level: float = 0

    @property
    def key(self) -> str:
        """Name of its arrays: `clean`, `pgd 4`, `fog 3`."""
        return self.name if self.name == CLEAN else f'{self.name} {self.level!r}'

    @property
    def is_attack(self) -> bool:
        """Whether it is an attack."""
        return self.name in ATTACKS


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        attacks: some of `ATTACKS`.
        norm: `linf` or `l2`.
        budgets: of the attacks; see `radius_of`.
        steps: of PGD.
        corruptions: names.
        severities: of the corruptions, 1 to 5.
        seed: of all that is random.
    """

    attacks: Sequence[str]
    norm: str
    budgets: Sequence[float]
    steps: int
    corruptions: Sequence[str]
    severities: Sequence[int]
    seed: int

    @property
    def attacked(self) -> list[Condition]:
        """All attacks."""
        return [Condition(name, budget) for name in self.attacks for budget in self.budgets]

    @property
    def corrupted(self) -> list[Condition]:
        """All corruptions."""
        return [Condition(name, level) for name in self.corruptions for level in self.severities]

    @property
    def passes(self) -> list[list[Condition]]:
        """Conditions whose images are made together: the attacks, then each corruption."""
        corruptions = [[c for c in self.corrupted if c.name == name] for name in self.corruptions]
        return [[Condition(CLEAN), *self.attacked], *corruptions]


@dataclass(frozen=True)
class Trial:
    """An image under a condition.

    Attributes:
        condition: what was done to it.
        image: (H, W, 3), uint8, or float32 after an attack; BGR.
        index: of the image in the data set.
        truth: of the image, as the task's samples have it.
        loss: that the attack reached; None where there is no attack.
    """

    condition: Condition
    image: np.ndarray
    index: int
    truth: object
    loss: float | None = None


def corrupted(image: np.ndarray, name: str, severity: int, seed: int, index: int) -> np.ndarray:
    """A corrupted image, (H, W, 3), uint8.

    What is random depends on `seed`, `index` and `name` alone, so that severities differ in nothing
    else.

    Args:
        image: (H, W, 3), uint8, BGR.
        name: one of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: of the whole analysis.
        index: number of the image in its data set.

    Raises:
        UserError: the image is smaller than 32x32.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f'corruptions need images of {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels at least, and image '
            f'{index} of the data set, counted from 0, has {width}x{height}; take it out, or give '
            '--corruptions none'
        )
    number = CORRUPTIONS.index(name)
    # These take their own generator, all others the global one.
    draws_from_seed = 'seed' in inspect.signature(corruption_dict[name]).parameters
    own = {'seed': own_seed(seed, index, number)} if draws_from_seed else {}
    with seeded(seed, index, number):
        changed = corrupt(np.ascontiguousarray(image[..., ::-1]), severity, name, **own)
    return np.ascontiguousarray(changed[..., ::-1])


def own_seed(*numbers: int) -> int:
    """A seed of 32 bits, which is what compiled functions take."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
