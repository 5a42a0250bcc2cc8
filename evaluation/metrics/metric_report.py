"""What a metric of the suite hands to `result.json`."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from mmengine.logging import print_log

from evaluation.metrics.evidence.records import Evidence


@dataclass
class MetricReport:
    """Figures of one evaluation.

    Attributes:
        images: how many were evaluated.
        metrics: by the names that papers use, in percent; None where undefined.
        per_class: the same by class, in percent; None where a class does not occur.
        evaluator: distribution that computed them; None where the suite did.
        evidence: what each image contributed; None where it could not be told.
    """

    images: int
    metrics: dict[str, float | None] = field(default_factory=dict)
    per_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    evaluator: str | None = None
    evidence: Evidence | None = None


def evidence_or_none(collect: Callable[[], Evidence]) -> Evidence | None:
    """What `collect` returns; None, and a warning, where evidence cannot be told."""
    try:
        return collect()
    except Exception as error:  # Whatever it is, the figures of a long training must not be lost for it.
        reason = f'{type(error).__name__}: {error}'
        print_log(f'result without evidence: {reason}', logger='current', level=logging.WARNING)
        return None
