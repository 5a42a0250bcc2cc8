"""What many conditions say together: performance under corruption, absolute and beside the clean one.

Michaelis et al., "Benchmarking Robustness in Object Detection: Autonomous Driving when Winter is
Coming", arXiv 1907.07484, section 3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """One metric, in percent.

    Attributes:
        clean: on clean images.
        mpc: mean performance under corruption: over severities, then over corruptions.
        rpc: relative performance under corruption, 100 * mPC / clean; None where clean is 0.
    """

    clean: float
    mpc: float
    rpc: float | None


def summarize(clean: float, corrupted: Sequence[Sequence[float]]) -> Summary | None:
    """Summarise a metric; None where it is undefined in some condition, or nothing was corrupted.

    Args:
        clean: on clean images.
        corrupted: by corruption and severity.
    """
    values = [value for severities in corrupted for value in severities]
    if not values or not all(map(math.isfinite, (clean, *values))):
        return None
    means = [math.fsum(severities) / len(severities) for severities in corrupted]
    mpc = math.fsum(means) / len(means)
    return Summary(clean, mpc, 100 * mpc / clean if clean else None)
