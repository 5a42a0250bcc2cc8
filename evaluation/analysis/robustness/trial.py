"""An image under a condition."""

from dataclasses import dataclass

import numpy as np

from evaluation.analysis.robustness.conditions import Condition


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
