"""What is done to images: attacks of several budgets, corruptions of several severities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.analysis.robustness.attacks import ATTACKS

CLEAN = 'clean'


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
        budgets: of the attacks; see `budgets.radius_of`.
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
