"""Conditions to test images under: attacks with budgets, corruptions with severities."""

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
    """A change applied to every image.

    Attributes:
        name: `clean`, or the name of an attack or corruption.
        level: budget of the attack, in 255ths, or severity of the corruption.
    """

    name: str
    level: float = 0

    @property
    def key(self) -> str:
        """Name that identifies the condition: `clean`, `pgd 4`, `fog 3`."""
        return self.name if self.name == CLEAN else f'{self.name} {self.level!r}'

    @property
    def is_attack(self) -> bool:
        """Whether the condition is an attack."""
        return self.name in ATTACKS


@dataclass(frozen=True)
class Plan:
    """Settings of an analysis.

    Attributes:
        attacks: names of attacks from `ATTACKS`.
        norm: norm of the budgets, `linf` or `l2`.
        budgets: attack budgets; see `radius_of`.
        steps: number of PGD steps.
        corruptions: names of corruptions from `CORRUPTIONS`.
        severities: corruption severities, 1 to 5.
        seed: seed for all random numbers.
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
        """Conditions that are attacks."""
        return [Condition(name, budget) for name in self.attacks for budget in self.budgets]

    @property
    def corrupted(self) -> list[Condition]:
        """Conditions that are corruptions."""
        return [Condition(name, level) for name in self.corruptions for level in self.severities]

    @property
    def passes(self) -> list[list[Condition]]:
        """Conditions grouped by pass over the images: clean and attacks, then each corruption."""
        corruptions = [[c for c in self.corrupted if c.name == name] for name in self.corruptions]
        return [[Condition(CLEAN), *self.attacked], *corruptions]


@dataclass(frozen=True)
class Trial:
    """An image under a condition.

    Attributes:
        condition: condition applied to the image.
        image: (H, W, 3), uint8, or float32 after an attack; BGR.
        index: index of the image in the data set.
        truth: ground truth, in the format of the task's samples.
        loss: loss that the attack reached; None without attacks.
    """

    condition: Condition
    image: np.ndarray
    index: int
    truth: object
    loss: float | None = None


def corrupted(image: np.ndarray, name: str, severity: int, seed: int, index: int) -> np.ndarray:
    """Return a corrupted image, (H, W, 3), uint8.

    Random numbers depend only on `seed`, `index` and `name`, so all severities use the same ones.

    Args:
        image: (H, W, 3), uint8, BGR.
        name: one of `CORRUPTIONS`.
        severity: severity, 1 to 5.
        seed: seed of the analysis.
        index: index of the image in the data set.

    Raises:
        UserError: the image is smaller than 32x32.
    """
    height, width = image.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise UserError(
            f'corruptions need images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, but image '
            f'{index} of the data set, counted from 0, has {width}x{height}; remove it, or give '
            '--corruptions none'
        )
    number = CORRUPTIONS.index(name)
    # Some corruptions take a seed; all others use NumPy's global generator.
    draws_from_seed = 'seed' in inspect.signature(corruption_dict[name]).parameters
    own = {'seed': own_seed(seed, index, number)} if draws_from_seed else {}
    with seeded(seed, index, number):
        changed = corrupt(np.ascontiguousarray(image[..., ::-1]), severity, name, **own)
    return np.ascontiguousarray(changed[..., ::-1])


def own_seed(*numbers: int) -> int:
    """Return a 32-bit seed, as compiled functions require."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
